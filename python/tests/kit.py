"""What the tests share: real registries with images in them."""

import hashlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import kharon

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
