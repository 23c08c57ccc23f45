"""Writes an image as skopeo's `dir:`.

    image.py FOLDER (TAR GZIP)...

The layers' gzip streams are linked, not copied. The config says nothing but what the layers are, so
that the same layers give the same image.
"""

import hashlib
import json
import os
import sys

CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(media_type, path, digest):
    return {"mediaType": media_type, "size": os.path.getsize(path), "digest": "sha256:" + digest}


def main(folder, *files):
    os.makedirs(folder)
    layers, diff_ids = [], []
    for tar, stream in zip(files[::2], files[1::2]):
        digest = digest_of(stream)
        os.symlink(stream, os.path.join(folder, digest))
        layers.append(describe(LAYER, stream, digest))
        diff_ids.append("sha256:" + digest_of(tar))
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config = json.dumps(config).encode()
    digest = hashlib.sha256(config).hexdigest()
    path = os.path.join(folder, digest)
    with open(path, "wb") as file:
        file.write(config)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": describe(CONFIG, path, digest), "layers": layers}
    with open(os.path.join(folder, "manifest.json"), "w") as file:
        json.dump(manifest, file)
    with open(os.path.join(folder, "version"), "w") as file:
        file.write("Directory Transport Version: 1.1\n")


main(*sys.argv[1:])
