"""This machine's architecture and CPU flags, and the number of threads to use."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from handglass.errors import UsageError

from .cpu_level import within_level
from .cpu_quota import cpu_quota
from .hwcap import arm_flags

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_CPUS = Path("/sys/devices/system/cpu")
VARIABLE = "TVM_NUM_THREADS"


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


def default_threads() -> int:
    """The usable physical cores, or fewer in a container that grants less CPU time."""
    cores, quota = physical_cores(usable_cpus()), cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def thread_count(threads: int | None) -> int:
    """`threads` if given, otherwise TVM_NUM_THREADS if set, otherwise `default_threads`.

    Raises UsageError unless it is an integer from 1 to the number of usable CPUs.
    """
    if threads is not None:
        return _checked("threads", threads, threads)
    variable = os.environ.get(VARIABLE, "").strip()
    if not variable:
        return default_threads()
    number = int(variable) if re.fullmatch("[0-9]{1,9}", variable) else None
    return _checked(VARIABLE, variable, number)


def _checked(name: str, given: object, threads: object) -> int:
    most = len(usable_cpus())
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise UsageError(
            f"{name}={given!r:.40} must be an integer between 1 and {most}, the number of usable "
            "CPUs"
        )
    return threads
