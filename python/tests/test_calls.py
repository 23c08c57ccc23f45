"""The package against real registries, beside docker-charon."""

import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import hashlib
import warnings

import kharon

try:
    import docker_charon
except ImportError:
    docker_charon = None

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """A docker-registry on a free port, with its data in memory."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = tempfile.TemporaryDirectory()
        config = pathlib.Path(self.folder.name, "config.yml")
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{inmemory: {{}}}}\nhttp: {{addr: '{self.host}'}}\n"
        )
        quiet = subprocess.DEVNULL
        command = ["docker-registry", "serve", str(config)]
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        for _ in range(200):
            try:
                self.request("GET", "/v2/")
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("docker-registry does not answer")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def request(self, method, path, body=None, **headers):
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers, answer.read()

    def blob(self, repository, content):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        answer, _ = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
        joint = "&" if "?" in answer["Location"] else "?"
        kind = "application/octet-stream"
        self.request("PUT", f"{answer['Location']}{joint}digest={digest}", content, Content_Type=kind)
        return {"size": len(content), "digest": digest}

    def image(self, name, *layers):
        repository, tag = name.split(":")
        layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        config = self.blob(repository, json.dumps({"architecture": "amd64", "os": "linux", "of": name}).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **config},
            "layers": [{"mediaType": layer_type, **self.blob(repository, layer)} for layer in layers],
        }
        body = json.dumps(manifest).encode()
        self.request("PUT", f"/v2/{repository}/manifests/{tag}", body, Content_Type=MANIFEST)

    def content(self):
        """Every tag, with the bytes of its manifest and all blobs."""
        found = {}
        names = json.loads(self.request("GET", "/v2/_catalog")[1])["repositories"]
        for name in names:
            for tag in json.loads(self.request("GET", f"/v2/{name}/tags/list")[1])["tags"] or []:
                body = self.request("GET", f"/v2/{name}/manifests/{tag}", Accept=MANIFEST)[1]
                manifest = json.loads(body)
                digests = [part["digest"] for part in [manifest["config"], *manifest["layers"]]]
                blobs = [self.request("GET", f"/v2/{name}/blobs/{digest}")[1] for digest in digests]
                found[f"{name}:{tag}"] = (body, blobs)
        return found


class Unseekable(io.RawIOBase):
    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(buffer)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.environ["KHARON_STATE_DIR"] = str(self.folder / "state")
        self.near = self.registry()
        self.common = os.urandom(30_000)
        self.near.image("team/base:1", self.common)
        self.near.image("team/app:1", self.common, os.urandom(50_000))
        self.near.image("tool:2", os.urandom(9_000))
        self.payload = self.folder / "payload.zip"

    def registry(self):
        registry = Registry()
        self.addCleanup(registry.close)
        return registry

    def make(self, file=None, images=("tool:2",), already=(), package=kharon, **options):
        file = self.payload if file is None else file
        package.make_payload(file, list(images), list(already), self.near.host, False, **options)


@unittest.skipUnless(docker_charon, "docker-charon is not installed")
class SideBySide(Case):
    CALLS = [
        (["tool:2"], [], False),
        (["team/app:1", "tool:2"], [], False),
        (["team/app:1"], ["team/base:1"], True),
        (["team/app:1", "team/base:1"], ["team/base:1"], True),
        (["team/base:1", "team/app:1"], ["team/base:1"], False),
    ]

    def test_the_same_calls_give_the_same_registries(self):
        for images, already, strict in self.CALLS:
            with self.subTest(images=images, already=already):
                results = []
                for package in (docker_charon, kharon):
                    far = self.registry()
                    file = self.folder / f"{package.__name__}.zip"
                    if already:
                        self.make(file, already, package=package)
                        package.push_payload(file, registry=far.host, secure=False)
                    self.make(file, images, already, package=package)
                    pushed = package.push_payload(str(file), strict, far.host, False)
                    results.append((pushed, far.content()))
                self.assertEqual(results[0], results[1])
                self.assertEqual(results[0][0], images)

    def test_an_image_that_is_not_there_is_warned_of_and_raised_when_strict(self):
        for package in (docker_charon, kharon):
            with self.subTest(package=package.__name__):
                far = self.registry()
                self.make(None, ["team/base:1", "tool:2"], ["team/base:1"], package=package)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    pushed = package.push_payload(self.payload, registry=far.host, secure=False)
                self.assertEqual(pushed, ["team/base:1", "tool:2"])
                self.assertIn(UserWarning, [warning.category for warning in caught])
                self.assertEqual(list(far.content()), ["tool:2"])
                with self.assertRaises(package.ManifestNotFound):
                    package.push_payload(self.payload, True, far.host, False)

    def test_payloads_of_docker_charon_are_pushed(self):
        far = self.registry()
        self.make(None, ["team/app:1"], package=docker_charon)
        self.assertEqual(kharon.push_payload(self.payload, False, far.host, False), ["team/app:1"])


class Calls(Case):
    def test_file_objects_of_all_kinds(self):
        self.make()
        buffer = io.BytesIO()
        self.make(buffer)
        self.assertEqual(buffer.getvalue(), self.payload.read_bytes())
        for file in (buffer, Unseekable(buffer.getvalue()), self.payload.open("rb")):
            far = self.registry()
            self.assertEqual(kharon.push_payload(file, False, far.host, False), ["tool:2"])
            self.assertEqual(list(far.content()), ["tool:2"])

    def test_wrong_types_are_named(self):
        for wrong, named in [
            ((1, ["a"]), "zip_file"),
            ((io.StringIO(), ["a"]), "zip_file"),
            (("x", "a:1"), "docker_images_to_transfer"),
            (("x", [1]), "docker_images_to_transfer"),
            (("x", ["a"], "b"), "docker_images_already_transferred"),
            (("x", ["a"], [], 5), "registry"),
            (("x", ["a"], [], "h", "no"), "secure"),
        ]:
            with self.subTest(wrong=wrong), self.assertRaisesRegex(TypeError, named):
                kharon.make_payload(*wrong)
        with self.assertRaisesRegex(TypeError, "zip_file"):
            kharon.push_payload(io.StringIO(""))
        with self.assertRaisesRegex(ValueError, "jobs"):
            self.make(jobs=0)
        with self.assertRaises(FileNotFoundError):
            kharon.push_payload(self.folder / "none.zip")
        self.payload.write_bytes(b"no zip")
        with self.assertRaises(kharon.PayloadError):
            kharon.push_payload(self.payload, False, self.near.host, False)
        with self.assertRaises(kharon.RegistryError):
            self.make(images=["none:1"])

    def test_progress_is_told_and_may_cancel(self):
        events = []
        self.make(progress=events.append)
        self.assertIn("blob-finished", [event["event"] for event in events])
        before = self.payload.read_bytes()

        def refuse(event):
            raise KeyError("enough")

        with self.assertRaisesRegex(KeyError, "enough"):
            self.make(images=["team/app:1"], progress=refuse)
        self.assertEqual(self.payload.read_bytes(), before)

    def test_what_a_file_object_raises_surfaces(self):
        class Full:
            def write(self, data):
                raise ZeroDivisionError("full")

        with self.assertRaisesRegex(ZeroDivisionError, "full"):
            self.make(Full())

    def test_ctrl_c_interrupts_at_once_and_leaves_only_what_goes_on(self):
        # A registry that takes connections and says nothing.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            code = f"import kharon; print(1, flush=True); kharon.make_payload({str(self.payload)!r}, ['a:1'], [], {host!r}, False)"
            child = subprocess.Popen(
                [sys.executable, "-c", code], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            child.stdout.readline()
            silent.settimeout(10)
            connection, _ = silent.accept()
            self.addCleanup(connection.close)
            begun = time.monotonic()
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=20)
        self.assertLess(time.monotonic() - begun, 4)
        self.assertIn("KeyboardInterrupt", errors)
        left = {path.name for path in self.folder.iterdir()} - {"payload.zip.partial", "state"}
        self.assertEqual(left, set())

    def test_other_threads_run_meanwhile(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            code = (
                "import kharon, threading, os\n"
                "threading.Timer(0.5, lambda: os._exit(7)).start()\n"
                f"kharon.make_payload({str(self.payload)!r}, ['a:1'], [], {host!r}, False)"
            )
            self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd="/", timeout=20).returncode, 7)

    def test_the_command_is_installed(self):
        command = shutil.which("kharon", path=os.path.dirname(sys.executable))
        self.assertIsNotNone(command)
        told = subprocess.run([command, "--version"], stdout=subprocess.PIPE, text=True, check=True)
        self.assertRegex(told.stdout, r"^kharon \d")
        self.assertEqual(subprocess.run([command], stderr=subprocess.DEVNULL).returncode, 2)


if __name__ == "__main__":
    unittest.main()
