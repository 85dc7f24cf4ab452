"""The state of a file on disk, which tells whether a file read earlier has changed since."""

from __future__ import annotations

import os
import time

RECENT_NS = 2_000_000_000
"""A file changed within this time may change again within the same tick of the timestamp clock."""


def file_state(stat: os.stat_result) -> dict[str, int]:
    """Identity, size in bytes and timestamps in ns; equal for a file that has not changed."""
    return {
        "device": stat.st_dev,
        "inode": stat.st_ino,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }


def is_settled(stat: os.stat_result) -> bool:
    """Whether any later change would give another state."""
    return time.time_ns() - stat.st_ctime_ns > RECENT_NS
