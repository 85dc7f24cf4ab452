"""Puts a finished bundle in place of another, and removes what killed writers left beside it.

A writer works in `.NAME.partial-HOST.PID` beside the bundle NAME and holds a lock on it. Where two
folders can be exchanged in one step, the old bundle ends up in that folder. Elsewhere it is renamed
to `.NAME.old-HOST.PID` first; if the process is killed then, the next writer renames it back.
"""

from __future__ import annotations

import fcntl
import glob
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..system.exchange import exchange
from .reader import is_bundle

STALE = 3600.0
"""Seconds without a change after which a folder of another machine is abandoned; compile steps are
shorter."""


def partial_folder(path: Path) -> Path:
    """Where this process writes the bundle `path`."""
    return _beside(path, "partial")


def hold(folder: Path) -> int:
    """Lock a folder against `sweep` until the returned descriptor is closed; -1 without locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def put_in_place(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`, where there may be a bundle or an empty folder. Raises OSError.

    A replaced bundle is removed; after an error it is at `path` as before.
    """
    if not is_bundle(path):
        folder.rename(path)
    elif exchange(folder, path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _rename_twice(folder, path)


def sweep(path: Path) -> None:
    """Remove the folders of killed writers of this bundle, and restore a bundle that one moved."""
    for old in filter(_is_abandoned, _left(path, "old")):
        if os.path.lexists(path):
            shutil.rmtree(old, ignore_errors=True)
        else:
            with suppress(OSError):
                old.rename(path)
    for folder in filter(_is_abandoned, _left(path, "partial")):
        shutil.rmtree(folder, ignore_errors=True)


def _rename_twice(folder: Path, path: Path) -> None:
    old = _beside(path, "old")
    path.rename(old)
    try:
        folder.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, kind: str) -> Path:
    return path.parent / f".{path.name}.{kind}-{_host()}.{os.getpid()}"


def _left(path: Path, kind: str) -> Iterator[Path]:
    yield from path.parent.glob(f".{glob.escape(path.name)}.{kind}-*")


def _is_abandoned(folder: Path) -> bool:
    """Whether the process that made the folder is gone: at once on this machine, else by age."""
    host, _, number = folder.name.rpartition("-")[2].rpartition(".")
    if not number.isdecimal() or _is_alive(int(number)) or _is_held(folder):
        return False
    return host == _host() or _age(folder) > STALE


def _host() -> str:
    """The name of this machine. Machines that share a disk have different ones."""
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node())[:40]


def _is_held(folder: Path) -> bool:
    """Whether a process holds its lock, for example in another container of this machine."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _age(folder: Path) -> float:
    """Seconds since anything in the folder changed; 0 if it is being removed concurrently."""
    try:
        return time.time() - max(f.stat().st_mtime for f in (folder, *folder.rglob("*")))
    except OSError:
        return 0.0


def _is_alive(number: int) -> bool:
    """Whether this machine has such a process; a writer on a shared disk may run elsewhere."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a valid PID
        return True
    return True
