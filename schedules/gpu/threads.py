"""Common steps of GPU schedules: binding loops to threads, copying to shared memory.

All thread loops of a kernel have the same extent, in `threadIdx.x` alone, so a copy may distribute
its elements differently from the product that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import Choices
from ..tiling import settled

WORD = 4
"""Bytes of a 32-bit number."""
QUAD = 4
"""Adjacent outputs of a thread: one load takes four 32-bit numbers."""

STRAIGHT = 8
"""Most rounds of a copy that are unrolled: enough loads in flight to hide their latency."""


def pick(sch: Schedule, choices: Choices, name: str, options: Sequence[int], default: int) -> int:
    """Pick a choice and return its value as a number."""
    return settled(sch, choices.pick(sch, name, options, default))


def halved(value: int, fits: Callable[[int], bool]) -> int:
    """The largest of value, value / 2, ... that fits; 1 if none does.

    Choices are offered independently of each other, so their combination may not fit.
    """
    while value > 1 and not fits(value):
        value //= 2
    return value


def bind_blocks(sch: Schedule, *loops) -> None:
    """Bind loops to workgroups; the last loop varies fastest."""
    for loop, axis in zip(reversed(loops), "xyz", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")


def share(sch: Schedule, block, loop, threads: int | tuple[int, int], width: int = QUAD) -> None:
    """Compute the block at `loop` into shared memory."""
    outer = depth_of(sch, loop)
    sch.set_scope(block, 0, "shared")  # before compute_at, so that the region covers all threads
    sch.compute_at(block, loop, preserve_unit_loops=True)
    spread(sch, sch.get_loops(block)[outer:], threads, width)


def keep_apart(sch: Schedule, rows, count: int = QUAD) -> None:
    """Pad each row of a tile by `count` numbers.

    The same column of adjacent rows is then in different memory banks, and loads of `count` numbers
    stay aligned.
    """
    sch.storage_align(rows, 0, -2, 2 * count, count)


def spread(sch: Schedule, loops: Sequence, threads: int | tuple[int, int], width: int) -> None:
    """Give adjacent threads adjacent groups of `width` elements, so that their loads coalesce.

    `threads` is the extent of `threadIdx.x`, or those of (y, x).
    """
    *outer, last = loops
    quad, lane = sch.split(last, [None, width])  # before fusing, so that TVM can analyse the index
    fused = sch.fuse(*outer, quad)
    extent, grid = int(sch.get(fused).extent), (threads,) if isinstance(threads, int) else threads
    rounds = sch.split(fused, [None, *grid] if extent > prod(grid) else [*grid])
    for axis in "xy"[: len(grid)]:
        sch.bind(rounds.pop(), f"threadIdx.{axis}")
    sch.vectorize(lane)
    for loop in rounds:
        if int(sch.get(loop).extent) <= STRAIGHT:
            sch.unroll(loop)


def depth_of(sch: Schedule, loop) -> int:
    """Number of loops around and including `loop`."""
    depth, sref = 0, sch.get_sref(loop)
    while sref is not None:
        depth += isinstance(sref.stmt, tirx.For)
        sref = sref.parent
    return depth
