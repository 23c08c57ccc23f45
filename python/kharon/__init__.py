"""Carries container images across an air gap.

The calls are those of docker-charon 0.4, with the options of the `kharon` command as further keyword
arguments.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

from kharon import _kharon, _options
from kharon._kharon import (
    BlobNotFound,
    KharonError,
    ManifestNotFound,
    PayloadError,
    RegistryError,
)

__all__ = [
    "BlobNotFound",
    "KharonError",
    "ManifestNotFound",
    "PayloadError",
    "RegistryError",
    "make_payload",
    "push_payload",
]


def make_payload(
    zip_file: Any,
    docker_images_to_transfer: list[str],
    docker_images_already_transferred: list[str] = [],
    registry: str = "registry-1.docker.io",
    secure: bool = True,
    username: Optional[str] = None,
    password: Optional[str] = None,
    *,
    progress: Optional[Callable[[dict[str, Any]], object]] = None,
    images_from: Any = None,
    all_tags: bool = False,
    whole_registry: bool = False,
    tag_regex: Optional[str] = None,
    against: Any = None,
    platform: Any = None,
    no_referrers: bool = False,
    foreign_layers: bool = False,
    keep_registry: bool = False,
    rename: Any = None,
    format: Optional[str] = None,
    volume_size: Any = None,
    fresh: bool = False,
    sign: Any = None,
    delta: Optional[str] = None,
    effort: Optional[str] = None,
    recompress: bool = False,
    workdir: Any = None,
    cache_dir: Any = None,
    baseline_dir: Any = None,
    jobs: Optional[int] = None,
    plain_http: Any = None,
    ca_file: Any = None,
    client_cert: Any = None,
    client_key: Any = None,
    skip_tls_verify: bool = False,
    limit_rate: Any = None,
) -> None:
    """Write a payload with the images, and nothing that the far registry has already.

    `zip_file` is a path, or an object whose `write` takes bytes. `progress` is called with every event
    of `kharon --progress json` as a dict; what it raises cancels the call. The other keyword arguments
    are the options of `kharon make-payload`.
    """
    own = {
        name: value
        for name, value in locals().items()
        if name not in _SHARED | {"docker_images_to_transfer", "docker_images_already_transferred"}
    }
    options = _options.access(registry, secure, username, password) + _options.further(own)
    already = _options.strings("docker_images_already_transferred", docker_images_already_transferred)
    options += [f"--already-transferred={image}" for image in already]
    images = _options.strings("docker_images_to_transfer", docker_images_to_transfer)
    stream = None
    if isinstance(zip_file, (str, os.PathLike)):
        options.append(f"--file={_path(zip_file)}")
    else:
        stream = _binary(zip_file, "write")
    _kharon.make([*options, "--", *images], stream, _teller(progress))


def push_payload(
    zip_file: Any,
    strict: bool = False,
    registry: str = "registry-1.docker.io",
    secure: bool = True,
    username: Optional[str] = None,
    password: Optional[str] = None,
    *,
    progress: Optional[Callable[[dict[str, Any]], object]] = None,
    prefix: Optional[str] = None,
    rename: Any = None,
    force_tags: bool = False,
    rebuild_index: bool = False,
    verify_first: bool = False,
    verify_key: Optional[str] = None,
    scanned: Any = None,
    chunk_size: Any = None,
    fresh: bool = False,
    baseline_repository: Any = None,
    baseline_dir: Any = None,
    workdir: Any = None,
    receipt: Any = None,
    jobs: Optional[int] = None,
    plain_http: Any = None,
    ca_file: Any = None,
    client_cert: Any = None,
    client_key: Any = None,
    skip_tls_verify: bool = False,
    limit_rate: Any = None,
) -> list[str]:
    """Push a payload of kharon or docker-charon, and return the names of its images.

    `zip_file` is a path, or an object whose `read` gives bytes. With `strict`, `ManifestNotFound` is
    raised before anything is sent if the registry lacks what the payload expects there. Without, an image
    that was said to be there and is not is warned of, and named in the result as docker-charon does.
    `progress` and the other keyword arguments are as for `make_payload`.
    """
    own = {name: value for name, value in locals().items() if name not in _SHARED | {"strict"}}
    options = _options.access(registry, secure, username, password) + _options.further(own)
    if not isinstance(strict, bool):
        raise TypeError(f"strict must be a bool, not {type(strict).__name__}")
    if strict:
        options.append("--strict")
    with _on_disk(zip_file, workdir) as path:
        pushed, missing = _kharon.push([*options, f"--file={path}"], _teller(progress))
    for image in missing:
        warnings.warn(
            f"{image} was said to be at the far side already, and is not there", UserWarning, stacklevel=2
        )
    return pushed


# Parameters that are not passed on under their names.
_SHARED = frozenset({"zip_file", "registry", "secure", "username", "password", "progress"})


def _path(path: Any) -> str:
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"zip_file must be a str, not {type(path).__name__}")
    # `-` is a file here, and no pipe.
    return os.path.join(os.curdir, path) if path == "-" else path


def _binary(file: Any, method: str) -> Any:
    if not callable(getattr(file, method, None)):
        raise TypeError(
            f"zip_file must be a path or have a method `{method}`, not {type(file).__name__}"
        )
    if isinstance(file, io.TextIOBase):
        raise TypeError("zip_file was opened for text: open it with 'b' in its mode")
    return file


@contextmanager
def _on_disk(zip_file: Any, workdir: Any) -> Iterator[str]:
    """The payload's path; that of a copy for a file object."""
    if isinstance(zip_file, (str, os.PathLike)):
        path = _path(zip_file)
        os.stat(path)
        yield path
        return
    file = _binary(zip_file, "read")
    if callable(getattr(file, "seekable", None)) and file.seekable():
        file.seek(0)
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        path = os.path.join(folder, "payload.zip")
        with open(path, "wb") as copy:
            shutil.copyfileobj(file, copy, 1024 * 1024)
        yield path


def _teller(progress: Optional[Callable[[dict[str, Any]], object]]) -> Callable[[str], None]:
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")

    def tell(text: str) -> None:
        if progress is not None:
            progress(json.loads(text))

    return tell
