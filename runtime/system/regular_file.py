"""Opens files that may come from anyone: regular files only, without waiting, within a limit.

A named pipe would block the reader, a device may never end, and opening one can have effects. Every
reader of files that a user or a bundle names goes through here. All errors are OSErrors whose
`strerror` says what the file is, so callers report them as any other failure to read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

SMALL_FILE = 64 << 20
"""Default limit in bytes, for files that are read whole: configurations, manifests, tokenizers."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, for reading. Raises OSError for anything else."""
    _check_kind(os.stat(path), path)  # noqa: PTH116  before a device is opened
    descriptor = os.open(path, _FLAGS)
    try:
        _check_kind(os.fstat(descriptor), path)  # the path may lead elsewhere by now
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], limit: int = SMALL_FILE) -> bytes:
    """The content of a regular file. Raises OSError for more than `limit` bytes (EFBIG)."""
    with open_regular(path) as file:
        return read_within(file, limit, path)


def read_text(path: str | os.PathLike[str], limit: int = SMALL_FILE) -> str:
    """The content as UTF-8. Raises OSError, or UnicodeDecodeError, which is a ValueError."""
    return read_regular(path, limit).decode("utf-8")


def read_within(file: BinaryIO, limit: int, path: str | os.PathLike[str]) -> bytes:
    """The rest of an open file. At most `limit` + 1 bytes are read, whatever its size claims."""
    parts, left = [], limit + 1
    while left and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", os.fspath(path))
    return b"".join(parts)


def is_regular(path: Path) -> bool:
    """Whether the path leads to a regular file; False if that cannot be found out."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _check_kind(state: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(state.st_mode):
        return
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", os.fspath(path))
    kind = _KINDS.get(stat.S_IFMT(state.st_mode), "a special file")
    raise OSError(errno.EINVAL, f"is {kind}, not a regular file", os.fspath(path))
