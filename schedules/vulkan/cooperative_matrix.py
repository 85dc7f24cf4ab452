"""Matmul of many rows with cooperative matrices: float16 operands, float32 sums.

A workgroup of several subgroups owns a tile of outputs. Each subgroup owns a part of it and keeps
its sums in matrices throughout the reduction. Both operands pass through shared memory as in
matmul.py, padded, rounded and dequantised on the way, and are loaded from there as whole matrices.
The sums return through shared memory, where the epilogue (bias, activation, residual) is applied to
each number, because only the device knows how a matrix is distributed over the registers of its
threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..gpu.limits import GpuLimits, Matrix, gpu_limits
from ..gpu.matrices import whole_matrices
from ..gpu.threads import (
    ORDERS,
    QUAD,
    ROWS_FIRST,
    WIDTHS,
    WORD,
    bind_tiles,
    depth_of,
    halved,
    keep_apart,
    pick,
    pick_copies,
    pick_order,
    share,
    spread,
)
from ..rule import Rule, find
from ..tiling import inline_epilogue, is_one
from .cooperative_intrinsics import HALF, intrinsic

TILES, DEPTHS, SUBGROUPS = (16, 32, 64), (16, 32), (1, 2, 4, 8)
ALIGNED = 8
"""Alignment of a matrix row in memory: 16 bytes, counted in 16-bit numbers."""


@dataclass(frozen=True)
class Tile:
    """The tile of a workgroup: outputs, inputs between two barriers, and the grid of subgroups."""

    rows: int
    columns: int
    depth: int
    down: int
    across: int
    order: int = ROWS_FIRST
    """Order of workgroups."""

    @property
    def bytes(self) -> int:
        operands = self.rows * (self.depth + ALIGNED) + self.depth * (self.columns + ALIGNED)
        return 2 * operands + WORD * self.rows * self.columns


def matrix(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one packed float16 matmul with its epilogue.

    Returns False for one row, for other types, or if the target has no matrix instruction.
    """
    found, limits = find(sch, "matmul"), gpu_limits(target)
    if len(found) != 1 or limits.matrix is None:
        return False
    if is_one(sch.get(sch.get_loops(found[0])[0]).extent) or not _is_half(sch):
        return False
    tile = _pick_tile(sch, limits, limits.matrix, choices)
    last = inline_epilogue(sch, found[0])
    _schedule(sch, found[0], last, tile, limits.matrix, pick_copies(sch, choices))
    return True


def _is_half(sch: Schedule) -> bool:
    stages = find(sch, "rows") + find(sch, "dequantize")
    return all(str(sch.get(stage).writes[0].source.dtype) == HALF for stage in stages)


def _pick_tile(sch: Schedule, limits: GpuLimits, matrix: Matrix, choices: Choices) -> Tile:
    """Pick the largest tile that memory and threads allow, with at least a matrix per subgroup."""
    rows = pick(sch, choices, "rows", TILES, limits.rows)
    columns = pick(sch, choices, "columns", TILES, limits.columns)
    depth = pick(sch, choices, "depth", DEPTHS, limits.depth)
    subgroups = pick(sch, choices, "subgroups", SUBGROUPS, 4)
    rows = halved(rows, lambda n: Tile(n, columns, depth, 1, 1).bytes <= limits.memory)
    subgroups = halved(subgroups, lambda n: n * matrix.threads <= limits.threads)
    across = halved(min(subgroups, 2), lambda n: columns % (n * matrix.columns) == 0)
    down = halved(subgroups // across, lambda n: rows % (n * matrix.rows) == 0)
    return Tile(rows, columns, depth, down, across, pick_order(sch, choices))


def _schedule(sch: Schedule, block, last, tile: Tile, matrix: Matrix, width: int) -> None:
    whole = int(sch.get(sch.get_loops(last)[-1]).extent) % tile.columns == 0
    group_row, subgroup, outer, step, inside = _split(sch, block, tile, matrix)
    threads = (tile.down * tile.across, matrix.threads)
    sums = sch.cache_write(block, 0, "wmma.accumulator")
    sch.set_scope(sums, 0, "shared")
    sch.reverse_compute_at(sums, subgroup)
    sch.reverse_compute_at(last, group_row)
    spread(sch, sch.get_loops(last)[depth_of(sch, group_row) :], threads, QUAD if whole else 1)
    for stage in (*find(sch, "rows"), *find(sch, "dequantize")):
        keep_apart(sch, stage, ALIGNED)
        share(sch, stage, outer, threads, width)
    held = [sch.cache_read(block, n, f"wmma.matrix_{use}") for n, use in enumerate("ab")]
    for copied in held:
        sch.compute_at(copied, step, preserve_unit_loops=True)
    _tensorize(sch, block, held, sums, outer, inside, matrix)


def _split(sch: Schedule, block, tile: Tile, matrix: Matrix) -> tuple:
    """Split the loops for workgroups, subgroups and matrices.

    Returns the loops over rows of workgroups, over subgroups, over inputs between barriers, over
    inputs by matrix, and the outermost loop inside a matrix.
    """
    i, j, k = sch.get_loops(block)
    down, across = tile.rows // tile.down, tile.columns // tile.across
    group_row, y, r, i = sch.split(i, [None, tile.down, down // matrix.rows, matrix.rows])
    group_column, x, c, j = sch.split(
        j, [None, tile.across, across // matrix.columns, matrix.columns]
    )
    outer, step, k = sch.split(k, [None, tile.depth // matrix.inputs, matrix.inputs])
    sch.reorder(group_column, group_row, y, x, outer, step, r, c, i, j, k)
    bind_tiles(sch, group_column, group_row, tile.order)
    subgroup = sch.fuse(y, x)
    sch.bind(subgroup, "threadIdx.y")
    for loop in (r, c):
        sch.unroll(loop)
    return group_row, subgroup, outer, step, i


def _tensorize(sch: Schedule, block, held: list, sums, outer, inside, matrix: Matrix) -> None:
    sizes = ((matrix.rows, matrix.inputs), (matrix.inputs, matrix.columns))
    for copied, size, use in zip(held, sizes, "ab", strict=True):
        sch.tensorize(whole_matrices(sch, copied, size), intrinsic(f"load_{use}", matrix))
    size = (matrix.rows, matrix.columns)
    sch.tensorize(whole_matrices(sch, sums, size), intrinsic("store", matrix))
    zero = sch.decompose_reduction(block, outer)
    sch.tensorize(whole_matrices(sch, zero, None), intrinsic("fill", matrix))
    sch.tensorize(inside, intrinsic("multiply", matrix))


OFFERS = {
    "rows": TILES,
    "columns": TILES,
    "depth": DEPTHS,
    "subgroups": SUBGROUPS,
    "order": ORDERS,
    "copy": WIDTHS,
}
RULE = Rule("vulkan-matrix", matrix, frozenset({"matmul"}), offers=OFFERS)
