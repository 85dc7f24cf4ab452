"""What this program remembers from one start to the next: small JSON files of the user's own.

They are in $XDG_CACHE_HOME/handglass, by default ~/.cache/handglass. Nothing is believed that
somebody else could have written; a folder that cannot be written to is no error.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any


def cache_folder(name: str) -> Path:
    """handglass/`name` in the user's cache; it need not exist."""
    return _user_folder("XDG_CACHE_HOME", ".cache") / name


def data_folder(name: str) -> Path:
    """handglass/`name` in the user's data, which is not thrown away; it need not exist."""
    return _user_folder("XDG_DATA_HOME", ".local/share") / name


def _user_folder(variable: str, default: str) -> Path:
    """A variable that is not an absolute path is ignored: XDG Base Directory Specification."""
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():
        base = Path(os.path.expanduser("~")) / default  # noqa: PTH111  Path.home() may raise
    return base / "handglass"


def read_cached(file: Path) -> dict[str, Any]:
    """Nothing, unless file and folder are ours alone to write."""
    try:
        if not (_is_ours(file.parent) and _is_ours(file)):
            return {}
        known = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write_cached(file: Path, known: dict[str, Any]) -> None:
    """In one step, so that nobody reads half of it."""
    part = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_text(json.dumps(known), "utf-8")
        part.replace(file)


def drop_cached(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
