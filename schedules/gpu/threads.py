"""Steps that every schedule for a GPU takes: loops onto threads, copies into shared memory.

All loops over threads of a kernel have the same extent, in `threadIdx.x` alone: a copy may then
divide its elements otherwise than the product that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import Choices
from ..tiling import settled

WORD = 4
"""Bytes of a number of 32 bits."""
QUAD = 4
"""Outputs of a thread side by side: numbers of 32 bits of which one load takes four."""

STRAIGHT = 8
"""Rounds of a copy that become straight code: enough loads at a time to hide each other."""


def pick(sch: Schedule, choices: Choices, name: str, options: Sequence[int], default: int) -> int:
    """A choice, as the number that it is."""
    return settled(sch, choices.pick(sch, name, options, default))


def halved(value: int, fits: Callable[[int], bool]) -> int:
    """The largest of value, value / 2, ... that fits: choices are offered whatever others are."""
    while value > 1 and not fits(value):
        value //= 2
    return value


def bind_blocks(sch: Schedule, *loops) -> None:
    """Workgroups; the last loop given runs fastest."""
    for loop, axis in zip(reversed(loops), "xyz", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")


def share(sch: Schedule, block, loop, threads: int | tuple[int, int], width: int = QUAD) -> None:
    """Compute the block below `loop` into shared memory."""
    outer = depth_of(sch, loop)
    sch.set_scope(block, 0, "shared")  # first: what is computed is then what all threads need
    sch.compute_at(block, loop, preserve_unit_loops=True)
    spread(sch, sch.get_loops(block)[outer:], threads, width)


def keep_apart(sch: Schedule, rows, count: int = QUAD) -> None:
    """A few more numbers after each row of a tile: the same column of neighbouring rows is then on
    different banks, and still aligned for loads of so many."""
    sch.storage_align(rows, 0, -2, 2 * count, count)


def spread(sch: Schedule, loops: Sequence, threads: int | tuple[int, int], width: int) -> None:
    """Neighbouring threads take neighbouring groups of `width` elements: their loads are one.

    Threads are counted in `threadIdx.x`, or given as (y, x).
    """
    *outer, last = loops
    quad, lane = sch.split(last, [None, width])  # apart from the rest: what it indexes is then seen
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
    """How many loops there are around and including `loop`."""
    found, sref = 0, sch.get_sref(loop)
    while sref is not None:
        found += isinstance(sref.stmt, tirx.For)
        sref = sref.parent
    return found
