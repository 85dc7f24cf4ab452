"""The memory that a process holds at its peak, read from /proc while it runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.02
"""Seconds between two readings."""


@dataclass
class Peak:
    """Bytes; each at its own peak.

    `resident` is the kernel's own maximum. It counts pages of mapped files, such as shards and
    libraries, that the kernel drops when memory is short; the other two are samples of its parts.
    """

    resident: int = 0
    anonymous: int = 0
    mapped: int = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Watch a process until the block ends."""
    peak, done = Peak(), threading.Event()
    status = Path(f"/proc/{pid}/status")

    def watch() -> None:
        while not done.wait(INTERVAL):
            try:
                _raise(peak, status.read_text("ascii", "replace"))
            except OSError:
                return  # it has ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _raise(peak: Peak, status: str) -> None:
    found = {key: int(kb) * 1024 for key, kb in re.findall(r"^(\w+):\s+(\d+) kB", status, re.M)}
    peak.resident = max(peak.resident, found.get("VmHWM", 0))
    peak.anonymous = max(peak.anonymous, found.get("RssAnon", 0))
    peak.mapped = max(peak.mapped, found.get("RssFile", 0))
