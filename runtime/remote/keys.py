"""Reads the key that a server and its clients share. Cheap to import."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from handglass.errors import InputError, UsageError

from ..system.regular_file import open_regular, read_within

VARIABLE = "HANDGLASS_DEVICE_KEY"
_SHORTEST = 16
_LONGEST = 64 << 10


def find_key(file: Path | None) -> str | None:
    """The key from the file, or else from the environment; None if neither is given.

    Raises InputError for a file that cannot be read or that others can read, UsageError for a short
    key.
    """
    if file is not None:
        return _checked(_read(file), str(file))
    key = os.environ.get(VARIABLE)
    return None if key is None else _checked(key, VARIABLE)


def _read(file: Path) -> str:
    try:
        with open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                name = shlex.quote(str(file))
                raise InputError(f"{file}: other users can read the key; chmod 600 {name}")
            return read_within(opened, _LONGEST, file).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the key: {error}") from error


def _checked(key: str, origin: str) -> str:
    if len(key) < _SHORTEST:
        raise UsageError(
            f"{origin}: a key of {len(key)} characters can be guessed; use {_SHORTEST} or more "
            "(openssl rand -hex 16)"
        )
    return key
