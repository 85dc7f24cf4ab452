"""A cache of verified parameter files, so that unchanged files are not hashed again.

Hashing 1.6 GB takes over a second at every start. After a full verification, the state of each
parameter file (device, inode, size, modification and change time, hash) is stored outside the
bundle, in $XDG_CACHE_HOME/handglass/verified/ (by default under ~/.cache). A file whose state has
not changed is not hashed again. If the cache folder cannot be written or trusted, every file is
hashed.

Guarantees and limits: the hash detects failed copies and files that changed after the manifest was
written. Every write to a file updates its change time, which programs cannot set, and a
replacement file has a different inode. The next start therefore hashes a file again after any
ordinary change. Undetected are changes that bypass the file system (a failing disk, raw writes to
the block device, a clock set back on purpose), and changes by anyone who can write both the bundle
and the cache folder; such a user could modify this program as well. verify="all"
(HANDGLASS_VERIFY=all) hashes everything at every start. Parameters are data: a wrong value gives a
wrong answer but never executes. Code and all small files are hashed at every start, and the headers
of the parameter files are always parsed strictly.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..system.file_state import file_state, is_settled
from ..system.user_cache import cache_folder, read_cached, write_cached


class Verified:
    """The cached file states of one bundle folder with one manifest."""

    def __init__(self, folder: Path, manifest: bytes) -> None:
        key = hashlib.sha256(manifest + b"\0" + os.fsencode(folder.resolve())).hexdigest()
        self._file = cache_folder("verified") / f"{key}.json"
        self._known = read_cached(self._file)
        self._changed = False

    def knows(self, name: str, now: os.stat_result, sha256: str) -> bool:
        """Whether the file had this hash when last verified and has not changed since."""
        return self._known.get(name) == _state(now, sha256)

    def add(self, name: str, before: os.stat_result, after: os.stat_result, sha256: str) -> None:
        """Record that the file has this hash; `before` and `after` it was read."""
        state = _state(before, sha256)
        if is_settled(before) and state == _state(after, sha256):
            self._known[name] = state
            self._changed = True

    def save(self) -> None:
        """Write the cache atomically. A folder that cannot be written is not an error."""
        if not self._changed:
            return
        write_cached(self._file, self._known)


def _state(stat: os.stat_result, sha256: str) -> dict[str, Any]:
    return {**file_state(stat), "sha256": sha256}
