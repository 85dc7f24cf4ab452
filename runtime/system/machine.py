"""This machine's architecture and CPU flags, and the number of threads to use."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from handglass.errors import UsageError

from .cpu_level import within_level
from .hwcap import arm_flags

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_CPUS = Path("/sys/devices/system/cpu")


def architecture(name: str) -> str:
    """The canonical name of an architecture: "amd64" -> "x86_64", "arm64" -> "aarch64"."""
    return _ARCHITECTURES.get(name.lower(), name.lower())


def this_machine() -> tuple[str, frozenset[str]]:
    """Architecture and CPU flags in use, as Linux spells them (see cpu_level.py)."""
    file = Path("/proc/cpuinfo")
    text = file.read_text("utf-8", errors="replace") if file.exists() else ""
    machine = platform.machine()
    asked = arm_flags() if architecture(machine) == "aarch64" else frozenset()
    return machine, within_level(architecture(machine), asked or cpu_flags(text))


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Flags common to all cores: on a big.LITTLE chip a thread may run on any core."""
    lines = re.findall(r"^(?:flags|Features)[ \t]*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset.intersection(*(frozenset(line.split()) for line in lines or [""]))


def usable_cpus() -> set[int]:
    """Logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def physical_cores(cpus: set[int], root: Path = _CPUS) -> int:
    """Physical cores of these logical CPUs: hyperthreads share the units that a matmul uses."""
    cores = set()
    for cpu in cpus:
        siblings = root / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.exists() else str(cpu))
    return len(cores)


def thread_count(threads: int | None) -> int:
    """`threads` if given, otherwise TVM_NUM_THREADS, otherwise the usable physical cores.

    Raises UsageError unless `threads` is an integer from 1 to the number of usable CPUs.
    """
    cpus = usable_cpus()
    if threads is None:
        variable = os.environ.get("TVM_NUM_THREADS", "")
        return int(variable) if variable.isdigit() and int(variable) > 0 else physical_cores(cpus)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= len(cpus):
        raise UsageError(
            f"threads={threads!r} must be between 1 and {len(cpus)}, the number of usable CPUs"
        )
    return threads
