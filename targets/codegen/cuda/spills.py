"""Machine code again where ptxas keeps registers in memory without need.

A kernel states how many threads its blocks have. How many blocks a multiprocessor shall hold is
then up to ptxas, which for some kernels aims at more than their registers allow and keeps a few of
them in local memory, that is in device memory. Told to reach just the number of blocks that its
code has reached, it finds code with as many registers and nothing in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .nvrtc import Nvrtc

REGISTERS, UNIT, WARP = 64 << 10, 256, 32
"""Registers of a multiprocessor of every chip since Turing ("Technical Specifications per Compute
Capability"), how many of them are given to a warp at a time, and the threads of a warp."""
MOST_REGISTERS = 255
"""Of a thread."""
BOUNDS = r"__launch_bounds__\((\d+)\) {name}\("
"""What TVM writes before the name of a kernel."""
REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of one kernel."""

    registers: int
    """Of 32 bits, per thread."""
    stack: int
    """Bytes of local memory per thread: arrays, and registers that had no place."""
    spilled: int
    """Bytes per thread that are stored there, and loaded again, for lack of registers."""

    @property
    def memory(self) -> int:
        return self.stack + self.spilled


def resources(log: str) -> dict[str, Resources]:
    """Kernel -> what the log of NVRTC says of it; nothing for PTX."""
    return {
        name: Resources(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in REPORT.findall(log)
    }


def compile_image(compiler: Nvrtc, source: str, architecture: str) -> tuple[bytes, str]:
    """The image of a source and NVRTC's log, like `Nvrtc.compile`, with less local memory if the
    kernels that spill can do with less."""
    first = compiler.compile(source, architecture)
    used = resources(first[1])
    bounded = with_bounds(source, used)
    if bounded == source:
        return first
    again = compiler.compile(bounded, architecture)
    return again if _memory(resources(again[1])) < _memory(used) else first


def with_bounds(source: str, used: Mapping[str, Resources]) -> str:
    """The source, in which kernels that spill, but not for lack of registers, state how many
    blocks a multiprocessor shall hold."""
    for name in sorted(name for name, kernel in used.items() if kernel.spilled):
        pattern = re.compile(BOUNDS.format(name=re.escape(name)))
        declared = pattern.search(source)
        if declared and (blocks := _blocks(int(declared[1]), used[name].registers)):
            source = pattern.sub(f"__launch_bounds__({declared[1]}, {blocks}) {name}(", source)
    return source


def _blocks(threads: int, registers: int) -> int:
    """How many blocks of that many threads a multiprocessor has registers for; 0 if a thread could
    not have more registers anyway."""
    warps = -(-threads // WARP)
    most = min(MOST_REGISTERS, REGISTERS // (warps * WARP))
    of_warp = -(-registers * WARP // UNIT) * UNIT
    return REGISTERS // (warps * of_warp) if registers < most else 0


def _memory(used: Mapping[str, Resources]) -> int:
    return sum(kernel.memory for kernel in used.values())
