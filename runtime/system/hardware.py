"""Describes this machine: architecture, instruction sets, cores and memory, as Linux reports."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from .machine import cpu_flags, physical_cores, this_machine, usable_cpus

L2_SIZE = "/sys/devices/system/cpu/cpu0/cache/index2/size"


@dataclass(frozen=True)
class Machine:
    architecture: str  # x86_64, aarch64
    model: str
    flags: frozenset[str]
    cores: int  # physical cores that this process may use
    memory: int | None  # bytes
    l2: int | None = None  # bytes of L2 cache per core


def read_machine() -> Machine:
    """Describe this machine. Without /proc (not Linux), flags are empty and memory is unknown."""
    cores = physical_cores(usable_cpus())
    name, flags = this_machine()
    machine = describe(name, read("/proc/cpuinfo"), read("/proc/meminfo"), cores)
    return replace(machine, flags=flags, l2=cache_size(read(L2_SIZE)))


def cpu_kind(cpuinfo: str | None = None) -> str:
    """The kind of processor in /proc/cpuinfo, by which tuning records are shared; "" if unknown.

    VENDOR-FAMILY-MODEL on x86 ("AuthenticAMD-26-2"), IMPLEMENTER-PART on ARM ("0x41-0xd0b").
    """
    text = read("/proc/cpuinfo") if cpuinfo is None else cpuinfo
    for keys in (("vendor_id", "cpu family", "model"), ("CPU implementer", "CPU part")):
        found = [re.search(rf"^{key}\s*:\s*(\w+)\s*$", text, re.MULTILINE) for key in keys]
        if all(found):
            return "-".join(match[1] for match in found if match)
    return ""


def cache_size(text: str) -> int | None:
    """Bytes, parsed from a line such as "2048K"."""
    match = re.fullmatch(r"(\d+)K\s*", text)
    return int(match[1]) * 1024 if match else None


def describe(architecture: str, cpuinfo: str, meminfo: str, cores: int) -> Machine:
    """A machine, from the text of /proc/cpuinfo and /proc/meminfo."""
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
