"""Small JSON files that persist between runs, in the user's cache folder.

They are in $XDG_CACHE_HOME/handglass, by default ~/.cache/handglass. A file that another user could
have written is ignored; a folder that cannot be written is not an error.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from .regular_file import SMALL_FILE, open_regular, read_within


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
        base = _home(variable) / default
    return base / "handglass"


def _home(variable: str) -> Path:
    """The user's home folder, or a path that cannot exist and says in errors what to set.

    Without HOME and an entry in /etc/passwd there is none. Python then gives "~", which is a folder
    of this name where the program happens to run.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  Path.home() may raise
    if home.is_absolute() and os.environ.get("HOME") != "":
        return home
    return Path(os.devnull, f"HOME is not set; set {variable}")


def read_cached(file: Path) -> dict[str, Any]:
    """The content of the file; empty unless only this user can write the file and its folder."""
    try:
        with open_private(file) as opened:
            known = json.loads(read_within(opened, SMALL_FILE, file))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write_cached(file: Path, known: dict[str, Any]) -> None:
    """Write the file atomically, so that no reader sees a partial file."""
    part = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_text(json.dumps(known), "utf-8")
        close_to_others(part)
        part.replace(file)


def drop_cached(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def open_private(file: Path) -> BinaryIO:
    """Open a file of the cache. Raises PermissionError if another user could have written it."""
    opened = open_regular(file)
    if is_private(file.parent.stat()) and is_private(os.fstat(opened.fileno())):
        return opened
    opened.close()
    raise PermissionError(errno.EPERM, "another user can write it or its folder", str(file))


def is_private(state: os.stat_result) -> bool:
    """Whether only this user can write the file."""
    return state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def close_to_others(*paths: Path) -> None:
    """Take away the write permission that a umask of 002 gives to the group."""
    for path in paths:
        state = path.stat()
        if state.st_uid == os.geteuid():
            path.chmod(stat.S_IMODE(state.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
