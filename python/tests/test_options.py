"""The keyword arguments are the options of the command."""

import inspect
import re
import subprocess
import sys
import unittest

import kharon

# What concerns standard streams and terminals, and what the calls have under another name.
LEFT = "dry_run json password_stdin login quiet verbose progress help version".split()
NAMED_OTHERWISE = {"file": "zip_file", "insecure": "secure", "already_transferred": "docker_images_already_transferred"}


class Options(unittest.TestCase):
    def test_every_option_is_a_keyword(self):
        for call, command in ((kharon.make_payload, "make-payload"), (kharon.push_payload, "push-payload")):
            with self.subTest(command=command):
                text = subprocess.run(
                    [sys.executable, "-m", "kharon", command, "--help"], stdout=subprocess.PIPE, text=True, check=True
                ).stdout
                options = re.findall(r"^ +(?:-[a-zA-Z], )?--([a-z-]+)", text, re.MULTILINE)
                names = {option.replace("-", "_") for option in options}
                expected = {NAMED_OTHERWISE.get(name, name) for name in names.difference(LEFT)}
                parameters = set(inspect.signature(call).parameters) - {"progress", "docker_images_to_transfer"}
                self.assertEqual(parameters, expected)


if __name__ == "__main__":
    unittest.main()
