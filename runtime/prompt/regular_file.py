"""Opens files of others: regular files of limited size, without waiting for anything."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from handglass.errors import InputError


def open_regular(path: str | os.PathLike[str], limit: int) -> BinaryIO:
    """Open a file for reading; a pipe or a device may be endless or never answer.

    Raises InputError, without the path, if it is no regular file of at most `limit` bytes, and
    OSError if it cannot be opened.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check(os.fstat(descriptor), limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError("cannot be read: it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("cannot be read: it is not a regular file; copy its content to a file")
    if status.st_size > limit:
        raise InputError(f"{status.st_size} bytes exceed the limit of {limit} bytes")
