"""Many rows on a GPU: the tile of outputs of a workgroup, and each thread's part of it."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule

from ..choices import Choices
from ..isa.register_tiles import LANES
from .limits import GpuLimits
from .threads import ORDERS, QUAD, ROWS_FIRST, WIDTHS, bind_tiles, depth_of, pick, pick_order

ROWS, COLUMNS, HEIGHTS = (16, 32, 64), (16, 32, 64), (2, 4, 8)
OFFERS = {"rows": ROWS, "columns": COLUMNS, "height": HEIGHTS, "order": ORDERS, "copy": WIDTHS}
"""The choices of many rows, whatever the arithmetic."""
ROWS_OF_A_TILE, COLUMNS_OF_A_TILE, ROWS_OF_A_THREAD = 64, 64, 8


@dataclass(frozen=True)
class Workgroup:
    """A tile of `rows` x `columns` outputs, of which each thread computes `height` x 4."""

    rows: int
    columns: int
    height: int
    order: int = ROWS_FIRST
    """Order of workgroups."""

    @property
    def threads(self) -> int:
        return self.rows // self.height * (self.columns // QUAD)


def pick_workgroup(sch: Schedule, limits: GpuLimits, choices: Choices) -> Workgroup:
    """Pick a tile that divides the operator's padding and fits the target's thread limit."""
    rows = pick(sch, choices, "rows", ROWS, ROWS_OF_A_TILE)
    columns = pick(sch, choices, "columns", COLUMNS, COLUMNS_OF_A_TILE)
    height = pick(sch, choices, "height", HEIGHTS, ROWS_OF_A_THREAD)
    order = pick_order(sch, choices)
    while Workgroup(rows, columns, height).threads > limits.threads:
        height *= 2
    return Workgroup(rows, columns, height, order)


def split_tile(sch: Schedule, block, last, tile: Workgroup, vector: bool = True):
    """Split loops (row, column, *reduction) into (workgroup, thread, *reduction, row, lane).

    Sums are in registers and the epilogue `last` is computed at the thread loop, which is returned.
    """
    i, j, *reduction = sch.get_loops(block)
    whole = int(sch.get(sch.get_loops(last)[-1]).extent) % tile.columns == 0
    group_row, y, row = sch.split(i, [None, tile.rows // tile.height, tile.height])
    group_column, panel, quad, lane = sch.split(
        j, [None, tile.columns // LANES, LANES // QUAD, QUAD]
    )
    sch.reorder(group_column, group_row, y, panel, quad, *reduction, row, lane)
    bind_tiles(sch, group_column, group_row, tile.order)
    thread = sch.fuse(y, panel, quad)
    sch.bind(thread, "threadIdx.x")
    sch.reverse_compute_at(last, thread)
    sch.set_scope(block, 0, "local")
    sch.unroll(row)
    if vector:
        sch.vectorize(lane)
    _finish(sch, last, whole)
    return thread


def _finish(sch: Schedule, last, whole: bool) -> None:
    """Unroll the epilogue: a non-constant index would move the sums to memory.

    `whole`: the columns have no ragged tail.
    """
    row, lane = sch.get_loops(last)[-2:]
    sch.unroll(row)
    if whole:
        sch.vectorize(lane)
    else:
        sch.unroll(lane)


def copy_to_registers(sch: Schedule, block, read: int, loop) -> None:
    """Copy what the block reads of input number `read` at `loop`, in loads of four numbers."""
    copied = sch.cache_read(block, read, "local")
    sch.compute_at(copied, loop, preserve_unit_loops=True)
    *rest, lane = sch.get_loops(copied)[depth_of(sch, loop) :]
    if int(sch.get(lane).extent) > QUAD:
        quad, lane = sch.split(lane, [None, QUAD])
        rest.append(quad)
    sch.vectorize(lane)
    for other in rest:
        sch.unroll(other)
