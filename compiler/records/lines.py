"""A file of lines that survives what happens to files: torn, damaged, foreign and endless lines.

Appending is one write under a lock, so that two processes may share a file; reading takes a line at
a time and never more than `limit` bytes of one. Each fault costs the line that has it, no more.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from handglass.errors import DeviceError, InputError

MAX_LINE = 16 << 10
"""Bytes of a line, its end included."""


@dataclass(frozen=True)
class Line:
    """What a line says, and which one it is, counted from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Refused:
    """A line that is not taken, and why."""

    line: int
    reason: str


def append_line(path: Path, text: str, limit: int = MAX_LINE) -> None:
    """Add one line that is on the disk when this returns.

    Raises ValueError for what would not be read back, DeviceError where it cannot be written; then
    the file is what it was.
    """
    data = text.encode("utf-8") + b"\n"
    if b"\n" in data[:-1] or b"\r" in data or len(data) > limit:
        raise ValueError(f"not one line of at most {limit} bytes: {text!r:.80}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            _append(file, data)
        finally:
            os.close(file)
    except OSError as error:
        reason = error.strerror or error
        raise DeviceError(f"{path}: cannot add a line: {reason}; what was there is kept") from error


def _append(file: int, data: bytes) -> None:
    """All or nothing. A line that a kill has torn is ended first, or it would tear this one too."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data
    try:
        if os.write(file, data) != len(data):
            os.write(file, b"\n")  # asks for the reason; what there was room for goes below
            raise OSError("only a part was written")
        os.fsync(file)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def read_lines(path: Path, limit: int = MAX_LINE) -> Iterator[Line | Refused]:
    """The lines that are there now; empty ones are passed over. InputError where there is no file.

    No lock is held between two of them: who reads may append.
    """
    if not path.is_file():  # a pipe would wait, a device would never end
        raise InputError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
    try:
        with path.open("rb") as file:
            yield from _lines(file, limit, _size(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _size(file: BinaryIO) -> int:
    """Bytes of whole appends: not in the middle of somebody's write."""
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(file, fcntl.LOCK_SH)
    size = os.fstat(file.fileno()).st_size
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    return size


def _lines(file: BinaryIO, limit: int, size: int) -> Iterator[Line | Refused]:
    number = 0
    while data := _part(file, limit, size):
        number += 1
        if len(data) == limit and not data.endswith(b"\n"):
            yield Refused(number, f"longer than {limit} bytes")
            while data and not data.endswith(b"\n"):
                data = _part(file, limit, size)
        elif data.strip():
            yield _line(number, data)


def _part(file: BinaryIO, limit: int, size: int) -> bytes:
    """The rest of a line, or as much of it as may be in memory at once."""
    return file.readline(max(0, min(limit, size - file.tell())))


def _line(number: int, data: bytes) -> Line | Refused:
    try:
        return Line(number, data.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        return Refused(number, f"not UTF-8: {error.reason} at byte {error.start}")
