"""What Linux tells about clock frequency, temperature and throttling; little of it in a container
or a virtual machine."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .machine import usable_cpus

ROOT = Path("/")
HOTTEST_MILLIDEGREES = 200_000
"""Sensors that report more, or less than zero, are not connected."""
PI_FIRMWARE, NOW = "sys/devices/platform/soc/soc:firmware/get_throttled", 0xF


@dataclass(frozen=True)
class ClockState:
    """None: the system does not tell."""

    mhz: float | None
    """The median over the CPUs that this process may use."""
    throttled: int | None
    """How often these CPUs have been throttled since the machine started."""
    celsius: float | None
    """The highest temperature of any zone."""
    limited: bool | None = None
    """Whether the clock is limited now: by a Raspberry Pi's firmware or a GPU's driver, because of
    heat or of too little power."""


def read_clock(root: Path = ROOT, cpus: Collection[int] | None = None) -> ClockState:
    """Read the state now, below the folder `root` that holds `sys` and `proc`."""
    used = sorted(usable_cpus() if cpus is None else cpus)
    return ClockState(_mhz(root, used), _throttled(root, used), _celsius(root), _limited(root))


def _mhz(root: Path, cpus: Collection[int]) -> float | None:
    """From cpufreq, in kHz, or else from /proc/cpuinfo."""
    files = [_cpu(root, cpu) / "cpufreq" / "scaling_cur_freq" for cpu in cpus]
    found = [value / 1000 for value in map(_number, files) if value]
    if not found:
        text = _text(root / "proc" / "cpuinfo")
        found = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*(\d+\.?\d*)", text, re.M)]
    return median(found) if found else None


def _throttled(root: Path, cpus: Collection[int]) -> int | None:
    files = [_cpu(root, cpu) / "thermal_throttle" / "core_throttle_count" for cpu in cpus]
    counts = [count for count in map(_number, files) if count is not None]
    return sum(counts) if counts else None


def _celsius(root: Path) -> float | None:
    files = sorted((root / "sys" / "class" / "thermal").glob("thermal_zone*/temp"))
    found = [value for value in map(_number, files) if value is not None]
    sane = [value / 1000 for value in found if 0 < value < HOTTEST_MILLIDEGREES]
    return max(sane, default=None)


def _limited(root: Path) -> bool | None:
    """The low bits say what is so now, the high ones what was once."""
    found = re.fullmatch(r"(?:0x)?([0-9a-f]{1,8})", _text(root / PI_FIRMWARE).strip().lower())
    return None if found is None else int(found[1], 16) & NOW != 0


def _cpu(root: Path, cpu: int) -> Path:
    return root / "sys" / "devices" / "system" / "cpu" / f"cpu{cpu}"


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""
