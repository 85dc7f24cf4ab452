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


WIDTHS = (1, 2, 4)
"""Offered numbers of adjacent elements that a thread copies to shared memory at a time."""
ORDERS = (ROWS_FIRST, COLUMNS_FIRST) = (0, 1)
"""Which tiles adjacent workgroups take: those below each other, which share their columns, so that
weights are read from memory once and rows from the cache; or those beside each other."""


def pick_copies(sch: Schedule, choices: Choices) -> int:
    """Pick the width of copies to shared memory."""
    return pick(sch, choices, "copy", WIDTHS, QUAD)


def pick_order(sch: Schedule, choices: Choices) -> int:
    """Pick the order of workgroups."""
    return pick(sch, choices, "order", ORDERS, ROWS_FIRST)


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


def bind_tiles(sch: Schedule, column, row, order: int) -> None:
    """Bind the loops over tiles of columns and of rows to workgroups."""
    bind_blocks(sch, *((column, row) if order == ROWS_FIRST else (row, column)))


def bind_blocks(sch: Schedule, *loops) -> None:
    """Bind loops to workgroups; the last loop varies fastest."""
    for loop, axis in zip(reversed(loops), "xyz", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")


def share(sch: Schedule, block, loop, threads: int | tuple[int, ...], width: int = QUAD) -> None:
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


def spread(sch: Schedule, loops: Sequence, threads: int | tuple[int, ...], width: int) -> None:
    """Give adjacent threads adjacent groups of `width` elements, so that their loads coalesce.

    `threads` is the extent of `threadIdx.x`, or those of (y, x) or (z, y, x).
    """
    *outer, last = loops
    quad, lane = sch.split(last, [None, width])  # before fusing, so that TVM can analyse the index
    fused = sch.fuse(*outer, quad)
    extent, grid = int(sch.get(fused).extent), (threads,) if isinstance(threads, int) else threads
    rounds = sch.split(fused, [None, *grid] if extent > prod(grid) else [*grid])
    for axis in "xyz"[: len(grid)]:
        sch.bind(rounds.pop(), f"threadIdx.{axis}")
    sch.vectorize(lane)
    for loop in rounds:
        if int(sch.get(loop).extent) <= STRAIGHT:
            sch.unroll(loop)


def vectorize_quads(sch: Schedule, lane) -> int:
    """Vectorise a loop over outputs, four at a time. Returns the number of its loops."""
    if int(sch.get(lane).extent) == QUAD:
        sch.vectorize(lane)
        return 1
    quad, lane = sch.split(lane, [None, QUAD])
    sch.unroll(quad)
    sch.vectorize(lane)
    return 2


def depth_of(sch: Schedule, loop) -> int:
    """Number of loops around and including `loop`."""
    depth, sref = 0, sch.get_sref(loop)
    while sref is not None:
        depth += isinstance(sref.stmt, tirx.For)
        sref = sref.parent
    return depth
