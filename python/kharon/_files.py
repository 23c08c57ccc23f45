"""Payloads as Python has them: paths and file objects."""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, Iterator, Optional, Protocol, Sequence, Tuple, Union

StrPath = Union[str, "os.PathLike[str]"]
Paths = Union[StrPath, Sequence[StrPath]]

_COPY_BYTES = 1024 * 1024


class Writes(Protocol):
    """What a payload can be written into."""

    def write(self, data: bytes, /) -> object: ...


class Reads(Protocol):
    """What a payload can be read from."""

    def read(self, size: int, /) -> bytes: ...


# The number of an open file and how messages call it.
Open = Tuple[int, str]


def paths(value: object) -> Optional[list[StrPath]]:
    """The paths that `value` is, all of which must be there; none if it is something else."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [path for path in values if isinstance(path, (str, os.PathLike))]
    if not values or len(found) < len(values):
        return None
    for path in found:
        # Raises what Python raises for files that are not there.
        os.stat(path)
    return found


def option(path: StrPath) -> str:
    text = os.fsdecode(path)
    # `-` is a file here, and no pipe.
    return "--file=" + (os.path.join(os.curdir, text) if text == "-" else text)


def writable(file: Writes) -> Writes:
    """`file`, which must take bytes."""
    _refuse_others(file, "write")
    return _Raw(file) if isinstance(file, io.RawIOBase) else file


class _Raw:
    """Says so when a file that does not block has taken nothing."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        written = self._file.write(data)
        if written is None:
            raise BlockingIOError("zip_file takes no more bytes now")
        return written

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def readable(file: Reads, workdir: Optional[StrPath]) -> Iterator[Open]:
    """`file` as an open file of the system's: itself if it is one, else a copy."""
    _refuse_others(file, "read")
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "zip_file"
    number = _regular(file)
    if number is not None:
        yield _handle(number), name
        return
    with _temporary(workdir) as copy:
        _copy(file, copy)
        yield _handle(copy.fileno()), name


def _refuse_others(file: object, method: str) -> None:
    if not callable(getattr(file, method, None)):
        kind = type(file).__name__
        raise TypeError(f"zip_file must be a path or have a method `{method}`, not {kind}")
    if isinstance(file, io.TextIOBase):
        raise TypeError("zip_file was opened for text: open it with 'b' in its mode")


def _regular(file: object) -> Optional[int]:
    """The descriptor of a file that can be read in place: nothing between it and the disk changes its bytes."""
    raw = file
    if type(file) is io.BufferedReader or type(file) is io.BufferedRandom:
        raw = file.raw
    if type(raw) is not io.FileIO or not raw.readable():
        return None
    number = raw.fileno()
    if not stat.S_ISREG(os.fstat(number).st_mode):
        return None
    if isinstance(file, io.BufferedRandom):
        file.flush()
    return number


def _handle(number: int) -> int:
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.get_osfhandle(number)
    return number


def _temporary(workdir: Optional[StrPath]) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=workdir)
    except OSError as error:
        # The name of the file in it would say nothing.
        folder = tempfile.gettempdir() if workdir is None else os.fspath(workdir)
        raise OSError(error.errno, error.strerror, folder) from None


def _copy(file: Reads, copy: IO[bytes]) -> None:
    seek, seekable = getattr(file, "seek", None), getattr(file, "seekable", None)
    if callable(seek) and (not callable(seekable) or seekable()):
        seek(0)
    while chunk := file.read(_COPY_BYTES):
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"zip_file.read must give bytes, not {type(chunk).__name__}")
        copy.write(chunk)
    copy.flush()
