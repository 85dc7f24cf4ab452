"""A file of lines that tolerates truncated, damaged, foreign and overlong lines.

Appending is one write under a lock, so that two processes can share a file. Reading processes a
line at a time and at most `limit` bytes of it. A fault affects only its own line.
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
from handglass.runtime.system.regular_file import open_regular

MAX_LINE = 16 << 10
"""Largest line in bytes, including the newline."""


@dataclass(frozen=True)
class Line:
    """A line and its number, counted from 1."""

    number: int
    text: str


@dataclass(frozen=True)
class Refused:
    """A line that was refused, and the reason."""

    line: int
    reason: str


def append_line(path: Path, text: str, limit: int = MAX_LINE) -> None:
    """Append one line; it is on the disk when this returns.

    Raises ValueError for text that could not be read back, DeviceError if it cannot be written; the
    file is then unchanged.
    """
    data = text.encode("utf-8") + b"\n"
    if b"\n" in data[:-1] or b"\r" in data or len(data) > limit:
        raise ValueError(f"not one line of at most {limit} bytes: {text!r:.80}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # held until the file is closed
            _append(file, data)
        finally:
            os.close(file)
    except OSError as error:
        reason = error.strerror or error
        raise DeviceError(f"{path}: cannot append: {reason}; the file is unchanged") from error


def _append(file: int, data: bytes) -> None:
    """Write all or nothing. A line truncated by a killed process is terminated first."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        data = b"\n" + data
    try:
        if os.write(file, data) != len(data):
            os.write(file, b"\n")  # raises the error; the partial line is removed below
            raise OSError("only a part was written")
        os.fsync(file)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def read_lines(path: Path, limit: int = MAX_LINE) -> Iterator[Line | Refused]:
    """Yield the lines that the file has at the start, without empty ones.

    No lock is held between two lines, so the reader may append. Raises InputError if there is no
    such file or it cannot be read.
    """
    try:
        with open_regular(path) as file:
            yield from _lines(file, limit, _size(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def read_heads(path: Path, size: int, most: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of each line, at most `most` of them; no line is held in memory.

    Raises InputError if there is no such file or it cannot be read.
    """
    try:
        with open_regular(path) as file:
            for _ in range(most):
                head = rest = file.readline(size)
                if not head:
                    return
                while rest and not rest.endswith(b"\n"):
                    rest = file.readline(1 << 16)
                yield head
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _size(file: BinaryIO) -> int:
    """Size in bytes between appends, not during the write of another process."""
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
    """The rest of a line, up to `limit` bytes."""
    return file.readline(max(0, min(limit, size - file.tell())))


def _line(number: int, data: bytes) -> Line | Refused:
    try:
        return Line(number, data.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        return Refused(number, f"not UTF-8: {error.reason} at byte {error.start}")
