"""The machine that we run on: architecture, instruction sets, cores and memory, as Linux tells."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from handglass.runtime.machine import cpu_flags, physical_cores, usable_cpus


@dataclass(frozen=True)
class Machine:
    architecture: str  # x86_64, aarch64
    model: str
    flags: frozenset[str]
    cores: int  # physical ones that we may use
    memory: int | None  # bytes


def read_machine() -> Machine:
    """This machine. Files that are missing (not Linux) leave flags empty and memory unknown."""
    cores = physical_cores(usable_cpus())
    return describe(platform.machine(), read("/proc/cpuinfo"), read("/proc/meminfo"), cores)


def describe(architecture: str, cpuinfo: str, meminfo: str, cores: int) -> Machine:
    """From the text of /proc/cpuinfo and /proc/meminfo."""
    model = re.search(r"^(?:model name|Model)\s*:\s*(.*?)\s*$", cpuinfo, re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return Machine(
        architecture,
        model[1] if model else architecture,
        cpu_flags(cpuinfo),
        cores,
        int(total[1]) * 1024 if total else None,
    )


def read(path: str) -> str:
    file = Path(path)
    return file.read_text("utf-8", errors="replace") if file.exists() else ""
