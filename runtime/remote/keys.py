"""Reads the key that a server and its clients share. Cheap to import."""

from __future__ import annotations

import os
from pathlib import Path

from handglass.errors import InputError, UsageError

VARIABLE = "HANDGLASS_DEVICE_KEY"
_SHORTEST = 16


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
        if file.stat().st_mode & 0o077:
            raise InputError(f"{file}: other users can read the key; chmod 600 {file}")
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the key: {error}") from error


def _checked(key: str, origin: str) -> str:
    if len(key) < _SHORTEST:
        raise UsageError(
            f"{origin}: a key of {len(key)} characters can be guessed; use {_SHORTEST} or more "
            "(openssl rand -hex 16)"
        )
    return key
