"""Which parameter files were hashed before and have not been touched since.

Hashing 1.6 GB takes over a second at every start. After one whole verification the state of each
parameter file (device, inode, size, modification and change time, hash) is kept outside the bundle:
$XDG_CACHE_HOME/handglass/verified/, by default in ~/.cache. A file whose state is the same is not
hashed again. Where that folder cannot be written, or cannot be trusted, everything is hashed.

What this can and cannot do. The hash guards against copies that went wrong and files that were
changed after the manifest was written, by accident or on the way here. Every write to a file sets
its change time, which no program can choose; another file under the same name has another inode.
So the next start hashes again after any ordinary change. Not noticed until then are what goes
around the file system (a failing disk, a device written to directly, a clock that was set back
on purpose) and whoever may write both the bundle and our folder, who could as well change this
program. For such a wish there is verify="all" (HANDGLASS_VERIFY=all). Parameters are numbers: a
wrong one makes a wrong answer, never code. What becomes code is hashed at every start, and so is
everything small; the headers of the parameter files are parsed strictly at every start too.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from ..system.user_cache import cache_folder, read_cached, write_cached

RECENT_NS = 2_000_000_000
"""A file that changed so shortly before may change again within the same tick of its clock."""


class Verified:
    """What is remembered of one bundle folder with one manifest."""

    def __init__(self, folder: Path, manifest: bytes) -> None:
        key = hashlib.sha256(manifest + b"\0" + os.fsencode(folder.resolve())).hexdigest()
        self._file = cache_folder("verified") / f"{key}.json"
        self._known = read_cached(self._file)
        self._changed = False

    def knows(self, file: Path, sha256: str) -> bool:
        """Whether the file had this hash when it was last read, and is untouched since."""
        return self._known.get(file.name) == _state(file.stat(), sha256)

    def add(self, file: Path, before: os.stat_result, sha256: str) -> None:
        """The file has this hash; `before` is its state from before it was read."""
        state = _state(before, sha256)
        settled = time.time_ns() - before.st_ctime_ns > RECENT_NS
        if settled and state == _state(file.stat(), sha256):
            self._known[file.name] = state
            self._changed = True

    def save(self) -> None:
        """In one step; a folder that cannot be written to is no error, the next start hashes."""
        if not self._changed:
            return
        write_cached(self._file, self._known)


def _state(found: os.stat_result, sha256: str) -> dict[str, Any]:
    return {
        "device": found.st_dev,
        "inode": found.st_ino,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "sha256": sha256,
    }
