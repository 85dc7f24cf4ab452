"""Resident memory of this process, mapped files included, and what the machine has left."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_GROUP = Path("/sys/fs/cgroup")


def peak_bytes() -> int:
    """Peak resident bytes, from /proc if it exists: getrusage includes the parent before exec."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Resident bytes now; the peak where /proc does not tell."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return peak_bytes()


def available_bytes() -> int | None:
    """Bytes that this process can still take, by the system or its container; None: unknown."""
    known = [n for n in (_machine_has_left(), _group_has_left()) if n is not None]
    return min(known, default=None)


def _machine_has_left() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _group_has_left() -> int | None:
    """What the limit of a container (cgroup 2) leaves; its file cache counts as free."""
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = int((_GROUP / "memory.current").read_text())
        cached = re.search(
            r"^inactive_file (\d+)$", (_GROUP / "memory.stat").read_text(), re.MULTILINE
        )
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():
        return None
    return max(0, int(limit) - used + (int(cached[1]) if cached else 0))
