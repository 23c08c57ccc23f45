"""What the calls take and give."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import warnings

import kharon
from kit import MANIFEST, Case


class Unseekable(io.RawIOBase):
    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(buffer)


class Reads:
    """Only looks like a file."""

    def __init__(self, content):
        self.read = io.BytesIO(content).read


class Files(Case):
    def test_a_payload_is_written_into_files_of_all_kinds(self):
        self.make()
        payload = self.payload.read_bytes()
        buffer = io.BytesIO()
        self.make(buffer)
        self.assertEqual(buffer.getvalue(), payload)
        for buffering in (0, -1):
            path = self.folder / "written.zip"
            with path.open("wb", buffering) as file:
                self.make(file)
                # Whoever reads it now finds all of it.
                self.assertEqual(path.read_bytes(), payload)

    def test_a_payload_is_pushed_from_files_of_all_kinds(self):
        self.make()
        payload = self.payload.read_bytes()
        at_its_end = io.BytesIO(payload)
        at_its_end.read()
        with self.payload.open("rb") as buffered, self.payload.open("rb", 0) as raw, tempfile.TemporaryFile() as both:
            buffered.read(1000)
            both.write(payload)
            for file in (at_its_end, Unseekable(payload), Reads(payload), buffered, raw, both):
                with self.subTest(file=file):
                    far = self.registry()
                    self.assertEqual(kharon.push_payload(file, False, far.host, False), ["tool:2"])
                    self.assertEqual(list(far.content()), ["tool:2"])
            # They are the caller's, and still open.
            self.assertEqual(buffered.tell(), 1000)
            self.assertFalse(raw.closed)

    def test_only_what_is_no_file_on_disk_is_copied(self):
        self.make()
        nowhere = self.folder / "nowhere"
        with self.payload.open("rb") as file:
            self.assertEqual(
                kharon.push_payload(file, False, self.registry().host, False, workdir=nowhere), ["tool:2"]
            )
        with self.assertRaises(FileNotFoundError) as caught:
            kharon.push_payload(Unseekable(b""), False, self.near.host, False, workdir=nowhere)
        self.assertEqual(caught.exception.filename, str(nowhere))

    def test_a_damaged_file_is_called_by_its_own_name(self):
        self.payload.write_bytes(b"no zip")
        with self.payload.open("rb") as file, self.assertRaisesRegex(kharon.PayloadError, str(self.payload)):
            kharon.push_payload(file, False, self.near.host, False)
        with self.assertRaisesRegex(kharon.PayloadError, "zip_file") as caught:
            kharon.push_payload(io.BytesIO(b"no zip"), False, self.near.host, False)
        self.assertNotIn(tempfile.gettempdir(), str(caught.exception))

    def test_what_a_file_object_raises_surfaces(self):
        class Full:
            def write(self, data):
                raise ZeroDivisionError("full")

        class Torn:
            def read(self, size):
                raise ZeroDivisionError("torn")

        class Busy(io.RawIOBase):
            def write(self, data):
                return None

        with self.assertRaisesRegex(ZeroDivisionError, "full"):
            self.make(Full())
        with self.assertRaisesRegex(ZeroDivisionError, "torn"):
            kharon.push_payload(Torn(), False, self.near.host, False)
        with self.assertRaises(BlockingIOError):
            self.make(Busy())

    def test_volumes_are_named_together_or_by_their_folder(self):
        self.near.image("big:1", os.urandom(300_000), os.urandom(300_000))
        folder = self.folder / "volumes"
        folder.mkdir()
        self.make(folder / "big.zip", ["big:1"], volume_size=400_000)
        volumes = sorted(folder.glob("*.zip"))
        self.assertGreater(len(volumes), 1)
        self.assertEqual(kharon.push_payload(volumes, False, self.registry().host, False), ["big:1"])
        self.assertEqual(kharon.push_payload(folder, False, self.registry().host, False), ["big:1"])
        # One alone publishes nothing, and says so.
        alone = self.folder / volumes[0].name
        former = volumes[0].read_bytes()
        alone.write_bytes(former)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertEqual(kharon.push_payload(alone, False, self.registry().host, False), [])
        self.assertIn("other volumes", str(caught[-1].message))
        self.assertEqual(caught[-1].filename, __file__)
        volumes[0].unlink()
        self.make(volumes[0], [], only_volume=1, plan=volumes[1])
        self.assertEqual(volumes[0].read_bytes(), former)


class Raised(Case):
    def test_wrong_types_are_named(self):
        for wrong, named in [
            ((1, ["a"]), "zip_file"),
            ((io.StringIO(), ["a"]), "zip_file"),
            (("x", "a:1"), "docker_images_to_transfer"),
            (("x", [1]), "docker_images_to_transfer"),
            (("x", ["a"], "b"), "docker_images_already_transferred"),
            (("x", ["a"], [], 5), "registry"),
            (("x", ["a"], [], "h", "no"), "secure"),
            (("x", ["a"], [], "h", True, 1), "username"),
            (("x", ["a"], [], "h", True, "me", b"x"), "password"),
        ]:
            with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, named):
                kharon.make_payload(*wrong)
        for wrong, named in [
            ((io.StringIO(""),), "zip_file"),
            ((None,), "zip_file"),
            (([],), "zip_file"),
            (("x", 1), "strict"),
        ]:
            with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, named):
                kharon.push_payload(*wrong)
        for options, named in [({"jobs": 1.5}, "jobs"), ({"against": [b"x"]}, "against"), ({"progress": 1}, "progress")]:
            with self.subTest(options=options), self.assertRaisesRegex(TypeError, named):
                self.make(**options)
        with self.assertRaises(TypeError):
            self.make(no_such_option=True)

    def test_arguments_that_make_no_sense_are_named(self):
        for options, named in [
            ({"jobs": 0}, "jobs"),
            ({"images": []}, "image"),
            ({"format": "tar"}, "format"),
            ({"tag_regex": "x"}, "tag-regex"),
        ]:
            with self.subTest(options=options), self.assertRaisesRegex(ValueError, named):
                self.make(**options)
        with self.assertRaisesRegex(ValueError, "volumes"):
            self.make(io.BytesIO(), volume_size="1GB")

    def test_what_went_wrong_tells_the_exception(self):
        with self.assertRaises(FileNotFoundError):
            kharon.push_payload(self.folder / "none.zip")
        with self.assertRaisesRegex(kharon.RegistryError, "none") as caught:
            self.make(images=["none:1"])
        self.assertIsInstance(caught.exception, kharon.KharonError)
        self.assertEqual(caught.exception.pushed, ())
        with self.assertRaises(kharon.KharonError):
            self.make(self.folder / "no" / "folder.zip")

    def test_missing_blobs_are_raised_after_the_others_were_pushed_and_before_when_strict(self):
        self.make(None, ["team/app:1", "tool:2"], ["team/base:1"])
        far = self.registry()
        with self.assertRaisesRegex(kharon.BlobNotFound, "team/app:1") as caught:
            kharon.push_payload(self.payload, True, far.host, False)
        self.assertEqual((caught.exception.pushed, far.content()), ((), {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self.assertRaisesRegex(kharon.BlobNotFound, "team/app:1") as caught:
                kharon.push_payload(self.payload, False, far.host, False)
        self.assertEqual((caught.exception.pushed, list(far.content())), (("tool:2",), ["tool:2"]))

    def test_a_tag_that_was_left_alone_is_raised(self):
        far = self.registry()
        first = self.folder / "first.zip"
        self.make(first, ["tool:2"])
        kharon.push_payload(first, False, far.host, False)
        self.near.image("tool:2", os.urandom(9_000))
        self.make(None, ["tool:2", "team/base:1"], against=first)
        far.image("tool:2", b"of somebody else")
        theirs = far.content()["tool:2"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self.assertRaisesRegex(kharon.RegistryError, "`tool:2` was left alone") as caught:
                kharon.push_payload(self.payload, False, far.host, False)
            self.assertEqual(caught.exception.pushed, ("team/base:1",))
            self.assertEqual(far.content()["tool:2"], theirs)
            pushed = kharon.push_payload(self.payload, False, far.host, False, force_tags=True)
        self.assertEqual(pushed, ["tool:2", "team/base:1"])

    def test_no_secret_and_no_control_character_is_in_what_is_raised(self):
        with self.assertRaises(ValueError) as caught:
            kharon.push_payload(__file__, False, "http://me:s3cret@far\x1b[2J")
        self.assertNotIn("s3cret", str(caught.exception))
        self.assertNotIn("\x1b", str(caught.exception))


class Told(Case):
    def test_progress_is_told_on_the_thread_that_called(self):
        events = []
        self.make(progress=events.append)
        self.assertIn("blob-finished", [event["event"] for event in events])
        known = kharon.Event.__annotations__
        self.assertEqual({key for event in events for key in event} - set(known), set())

    def test_warnings_go_to_progress_or_else_to_pythons_warnings(self):
        self.make(None, ["team/base:1"], ["team/base:1"])
        events, far = [], self.registry()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kharon.push_payload(self.payload, False, far.host, False, progress=events.append)
            self.assertIn("warning", [event["event"] for event in events])
            with self.assertRaisesRegex(UserWarning, "team/base:1"):
                kharon.push_payload(self.payload, False, far.host, False)

    def test_nothing_is_printed_and_nobody_is_asked(self):
        code = (
            "import kharon, sys\n"
            f"kharon.make_payload({str(self.payload)!r}, ['tool:2'], [], {self.near.host!r}, False)\n"
            f"kharon.push_payload({str(self.payload)!r}, False, {self.near.host!r}, False)\n"
            "try:\n"
            f"    kharon.push_payload({str(self.payload)!r}, False, {self.near.host!r}, False, 'me')\n"
            "except ValueError as error:\n"
            "    assert 'expected a terminal' in str(error), error\n"
        )
        command = [sys.executable, "-c", code]
        # On a terminal there would be somebody to ask.
        if script := shutil.which("script"):
            quoted = " ".join("'" + part.replace("'", "'\\''") + "'" for part in command)
            command = [script, "-qec", quoted, os.devnull]
        told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=30)
        self.assertEqual((told.returncode, told.stdout, told.stderr), (0, b"", b""))


class Installed(unittest.TestCase):
    def test_the_command_is_installed(self):
        command = shutil.which("kharon", path=os.path.dirname(sys.executable))
        self.assertIsNotNone(command)
        told = subprocess.run([command, "--version"], stdout=subprocess.PIPE, text=True, check=True)
        self.assertRegex(told.stdout, r"^kharon \d")
        self.assertEqual(subprocess.run([command], stderr=subprocess.DEVNULL).returncode, 2)
        module = subprocess.run([sys.executable, "-m", "kharon", "--version"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(module.stdout, told.stdout)

    def test_types_ship(self):
        folder = pathlib.Path(kharon.__file__).parent
        self.assertTrue((folder / "py.typed").exists() and (folder / "_kharon.pyi").exists())


if __name__ == "__main__":
    unittest.main()
