"""The machine that we run on: architecture, instruction sets, cores and memory, as Linux tells."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    architecture: str  # x86_64, aarch64
    model: str
    flags: frozenset[str]
    cores: int
    memory: int | None  # bytes


def read_machine() -> Machine:
    """This machine. Files that are missing (not Linux) leave flags empty and memory unknown."""
    return describe(
        platform.machine(),
        read("/proc/cpuinfo"),
        read("/proc/meminfo"),
        usable_cores(),
    )


def describe(architecture: str, cpuinfo: str, meminfo: str, cores: int) -> Machine:
    """From the text of /proc/cpuinfo and /proc/meminfo. Flags are those that every core has."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    common = frozenset.intersection(*(frozenset(line.split()) for line in lines or [""]))
    model = re.search(r"^(?:model name|Model)\s*:\s*(.*?)\s*$", cpuinfo, re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return Machine(
        architecture,
        model[1] if model else architecture,
        common,
        cores,
        int(total[1]) * 1024 if total else None,
    )


def usable_cores() -> int:
    """Cores that this process may run on, which in a container may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read(path: str) -> str:
    file = Path(path)
    return file.read_text("utf-8", errors="replace") if file.exists() else ""
