"""Machine code again where ptxas keeps registers in memory without need.

A kernel states how many threads its blocks have. How many blocks a multiprocessor shall hold is
then up to ptxas, which for some kernels aims at more than their registers allow and keeps a few of
them in local memory, that is in device memory. Told to reach just the number of blocks that its
code has reached, it mostly finds code with as many registers and nothing in memory; else with one
block less.
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
TRIES = 2
"""Times that a source is compiled again."""
BOUNDS = re.compile(r"__launch_bounds__\((\d+)\) (\w+)\(")
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
    best = compiler.compile(source, architecture)
    used, bounds = resources(best[1]), dict[str, int]()
    for _ in range(TRIES):
        found = tighter(bounds, used, threads_of(source))
        if found == bounds:
            break
        bounds = found
        tried = compiler.compile(with_bounds(source, bounds), architecture)
        used = resources(tried[1])
        best = min(best, tried, key=_memory)
    return best


def tighter(
    bounds: Mapping[str, int], used: Mapping[str, Resources], threads: Mapping[str, int]
) -> dict[str, int]:
    """The bounds for the next trial: kernels that spill shall reach as many blocks as they have,
    and one less if that was their bound already."""
    found = dict(bounds)
    for name, kernel in used.items():
        if kernel.spilled and name in threads:
            blocks = bounds.get(name, _blocks(threads[name], kernel.registers) + 1) - 1
            if blocks > 0:
                found[name] = blocks
    return found


def threads_of(source: str) -> dict[str, int]:
    """Kernel -> the threads of its blocks."""
    return {name: int(threads) for threads, name in BOUNDS.findall(source)}


def with_bounds(source: str, bounds: Mapping[str, int]) -> str:
    """The source, in which kernels state how many blocks a multiprocessor shall hold."""

    def bounded(declared: re.Match[str]) -> str:
        threads, name = declared.groups()
        if name not in bounds:
            return declared[0]
        return f"__launch_bounds__({threads}, {bounds[name]}) {name}("

    return BOUNDS.sub(bounded, source)


def _blocks(threads: int, registers: int) -> int:
    """How many blocks of that many threads a multiprocessor has registers for; 0 if a thread could
    not have more registers anyway."""
    warps = -(-threads // WARP)
    most = min(MOST_REGISTERS, REGISTERS // (warps * WARP))
    of_warp = -(-registers * WARP // UNIT) * UNIT
    return REGISTERS // (warps * of_warp) if registers < most else 0


def _memory(compiled: tuple[bytes, str]) -> int:
    return sum(kernel.memory for kernel in resources(compiled[1]).values())
