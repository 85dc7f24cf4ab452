"""The secret that a server and its clients share: where it comes from. Cheap to import."""

from __future__ import annotations

import os
from pathlib import Path

from handglass.errors import InputError, UsageError

VARIABLE = "HANDGLASS_DEVICE_KEY"
_SHORTEST = 16


def find_key(file: Path | None) -> str | None:
    """From the file, or else from the environment; None where there is neither.

    InputError for a file that cannot be read or that others can, UsageError for a short key.
    """
    if file is not None:
        return _checked(_read(file), str(file))
    given = os.environ.get(VARIABLE)
    return None if given is None else _checked(given, VARIABLE)


def _read(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o077:
            raise InputError(f"{file}: others may read the key; chmod 600 {file}")
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the key: {error}") from error


def _checked(key: str, origin: str) -> str:
    if len(key) < _SHORTEST:
        raise UsageError(
            f"{origin}: a key of {len(key)} characters can be guessed; take {_SHORTEST} or more "
            "(openssl rand -hex 16)"
        )
    return key
