"""The clock of an NVIDIA GPU, as its driver's program nvidia-smi tells; a Jetson has none."""

from __future__ import annotations

import re
import subprocess

from ...system.clock_rate import ClockState

FIELDS = "clocks.sm,temperature.gpu,clocks_throttle_reasons.active"
LIMITING = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Reasons to run slower than asked: the power limit, the slowdown signal of the board, heat in
software and in hardware, the power brake (nvml.h, nvmlClocksEventReasons)."""
UNKNOWN = ClockState(None, None, None)
TIMEOUT_S = 5


def read_gpu_clock(uuid: str, program: str = "nvidia-smi") -> ClockState:
    """The state now of the GPU with this UUID, as the CUDA driver writes it: without "GPU-"."""
    command = [program, f"--id=GPU-{uuid}", f"--query-gpu={FIELDS}"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return UNKNOWN
    return parse_clock(done.stdout)


def parse_clock(line: str) -> ClockState:
    """The values of FIELDS; "[N/A]" and the like are unknown."""
    cells = [cell.strip() for cell in line.strip().split(",")]
    if len(cells) != len(FIELDS.split(",")):
        return UNKNOWN
    mhz, celsius = (float(c) if re.fullmatch(r"\d{1,6}", c) else None for c in cells[:2])
    reasons = re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cells[2])
    limited = None if reasons is None else int(reasons[0], 16) & LIMITING != 0
    return ClockState(mhz, None, celsius, limited)
