"""Carries container images across an air gap.

The calls are those of docker-charon 0.4, with the options of the `kharon` command as further keyword
arguments.
"""

from __future__ import annotations

import os
from typing import Optional, Sequence, Union, cast

from kharon import _files, _kharon, _options
from kharon._events import Event, Progress, teller
from kharon._files import Paths, Reads, StrPath, Writes
from kharon._kharon import (
    BlobNotFound,
    KharonError,
    ManifestNotFound,
    PayloadError,
    RegistryError,
)

__all__ = [
    "BlobNotFound",
    "Event",
    "KharonError",
    "ManifestNotFound",
    "PayloadError",
    "RegistryError",
    "make_payload",
    "push_payload",
]

_Strings = Union[str, Sequence[str]]
_Size = Union[str, int]

# Parameters that are not passed on as the options of their names.
_OWN_WAY = frozenset(
    "zip_file docker_images_to_transfer docker_images_already_transferred strict registry secure username password "
    "progress".split()
)


def make_payload(
    zip_file: Union[StrPath, Writes],
    docker_images_to_transfer: Sequence[str],
    docker_images_already_transferred: Sequence[str] = (),
    registry: str = "registry-1.docker.io",
    secure: bool = True,
    username: Optional[str] = None,
    password: Optional[str] = None,
    *,
    progress: Optional[Progress] = None,
    images_from: Optional[Paths] = None,
    image_path: Optional[_Strings] = None,
    all_tags: bool = False,
    whole_registry: bool = False,
    tag_regex: Optional[str] = None,
    against: Optional[Paths] = None,
    platform: Optional[_Strings] = None,
    no_referrers: bool = False,
    foreign_layers: bool = False,
    keep_registry: bool = False,
    rename: Optional[_Strings] = None,
    format: Optional[str] = None,
    volume_size: Optional[_Size] = None,
    only_volume: Optional[int] = None,
    plan: Optional[StrPath] = None,
    fresh: bool = False,
    sign: Optional[StrPath] = None,
    delta: Optional[str] = None,
    effort: Optional[str] = None,
    recompress: bool = False,
    workdir: Optional[StrPath] = None,
    cache_dir: Optional[StrPath] = None,
    baseline_dir: Optional[Paths] = None,
    jobs: Optional[int] = None,
    plain_http: Optional[_Strings] = None,
    ca_file: Optional[Paths] = None,
    client_cert: Optional[StrPath] = None,
    client_key: Optional[StrPath] = None,
    skip_tls_verify: bool = False,
    limit_rate: Optional[_Size] = None,
    mirror: Optional[_Strings] = None,
    mirror_only: bool = False,
) -> None:
    """Write a payload with the images, and nothing that the far registry has already.

    `zip_file` is a path, or an object whose `write` takes bytes. `progress` is called with every event
    of `kharon --progress json`; what it raises cancels the call. Without it, warnings are warned of. The
    other keyword arguments are the options of `kharon make-payload`.
    """
    options = _own(locals()) + _options.access(registry, secure, username, password)
    already = _options.strings("docker_images_already_transferred", docker_images_already_transferred)
    options += [f"--already-transferred={image}" for image in already]
    images = _options.strings("docker_images_to_transfer", docker_images_to_transfer)
    stream = None
    if isinstance(zip_file, (str, os.PathLike)):
        options.append(_files.option(zip_file))
    else:
        stream = _files.writable(zip_file)
    _kharon.make([*options, "--", *images], stream, teller(progress), progress is not None)


def push_payload(
    zip_file: Union[StrPath, Sequence[StrPath], Reads],
    strict: bool = False,
    registry: str = "registry-1.docker.io",
    secure: bool = True,
    username: Optional[str] = None,
    password: Optional[str] = None,
    *,
    progress: Optional[Progress] = None,
    prefix: Optional[str] = None,
    rename: Optional[_Strings] = None,
    force_tags: bool = False,
    rebuild_index: bool = False,
    verify_first: bool = False,
    verify_key: Optional[StrPath] = None,
    scanned: Optional[Paths] = None,
    chunk_size: Optional[_Size] = None,
    fresh: bool = False,
    baseline_repository: Optional[_Strings] = None,
    baseline_dir: Optional[Paths] = None,
    workdir: Optional[StrPath] = None,
    receipt: Optional[StrPath] = None,
    jobs: Optional[int] = None,
    plain_http: Optional[_Strings] = None,
    ca_file: Optional[Paths] = None,
    client_cert: Optional[StrPath] = None,
    client_key: Optional[StrPath] = None,
    skip_tls_verify: bool = False,
    limit_rate: Optional[_Size] = None,
) -> list[str]:
    """Push a payload of kharon or docker-charon, and return the names of its images.

    `zip_file` is a path, a list of the paths of volumes, or an object whose `read` gives bytes. With
    `strict`, `ManifestNotFound` or `BlobNotFound` is raised before anything is sent if the registry lacks
    images or blobs that the payload expects there. Without, an image that was said to be there and is not
    is warned of, and named in the result as docker-charon does. `progress` and the other keyword arguments
    are as for `make_payload`.
    """
    options = _own(locals()) + _options.access(registry, secure, username, password)
    if _options.flag("strict", strict):
        options.append("--strict")
    paths = _files.paths(zip_file)
    if paths is not None:
        options += map(_files.option, paths)
        return _kharon.push(options, None, teller(progress), progress is not None)
    with _files.readable(cast(Reads, zip_file), workdir) as open_file:
        return _kharon.push(options, open_file, teller(progress), progress is not None)


def _own(arguments: dict[str, object]) -> list[str]:
    return _options.further({name: value for name, value in arguments.items() if name not in _OWN_WAY})
