"""Float matmul on a GPU: x (m, k) times weights packed in panels of 16 output columns.

One row is a stream over the weights (one_row.py). Many rows: a workgroup owns a tile of 64 x 64
outputs. It copies 16 inputs of its rows and of its columns to shared memory, padded, rounded and
dequantised on the way, and each thread multiplies 8 rows by 4 columns of them: 12 loads of
four numbers for 128 products. The inputs of a row are contiguous, so a thread loads four of them at
a time and adjacent threads share the load; the columns that adjacent threads load are adjacent, in
different memory banks.
"""

from __future__ import annotations

import tvm
from tvm import DataType
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, find
from ..tiling import clear, inline_epilogue, is_one
from . import one_row, tile
from .limits import GpuLimits, gpu_limits
from .one_row import add_up_parts, pick_parts, pick_staged, share_row
from .threads import (
    QUAD,
    halved,
    keep_apart,
    pick,
    pick_copies,
    share,
    vectorize_quads,
)
from .tile import Workgroup, copy_to_registers, pick_workgroup, split_tile

DEPTHS = (8, 16, 32)


def matmul(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one packed matmul with its epilogue."""
    found, limits = find(sch, "matmul"), gpu_limits(target)
    if len(found) != 1:
        return False
    last = inline_epilogue(sch, found[0])
    if is_one(sch.get(sch.get_loops(found[0])[0]).extent):
        _one_row(sch, found[0], last, limits, choices)
    else:
        _many_rows(sch, found[0], last, limits, choices)
    return True


def _one_row(sch: Schedule, block, last, limits: GpuLimits, choices: Choices) -> None:
    (row,), (columns,) = find(sch, "rows"), find(sch, "dequantize")
    sch.compute_inline(columns)
    staged = pick_staged(sch, row, limits, choices)
    _, column, k = sch.get_loops(block)
    parts, (*_, part) = pick_parts(sch, column, k, limits, choices)
    partial = add_up_parts(sch, block, last, part, parts)
    *_, k, step, lane = sch.get_loops(partial)
    depth = vectorize_quads(sch, lane)
    sch.unroll(step)
    clear(sch, partial, k, depth)
    if staged:
        share_row(sch, row, partial, parts)


def _many_rows(sch: Schedule, block, last, limits: GpuLimits, choices: Choices) -> None:
    tile = pick_workgroup(sch, limits, choices)
    (rows,), (columns,) = find(sch, "rows"), find(sch, "dequantize")
    depth = _pick_depth(sch, rows, tile, limits, choices)
    width = pick_copies(sch, choices)
    outer, quad, step = sch.split(sch.get_loops(block)[-1], [None, depth // QUAD, QUAD])
    split_tile(sch, block, last, tile)
    keep_apart(sch, rows)
    for stage in (rows, columns):
        share(sch, stage, outer, tile.threads, width)
    copy_to_registers(sch, block, 0, quad)
    copy_to_registers(sch, block, 1, step)
    sch.unroll(step)
    clear(sch, block, outer, 2)


def _pick_depth(sch: Schedule, rows, tile: Workgroup, limits: GpuLimits, choices: Choices) -> int:
    """Pick the number of inputs between two barriers, limited by shared memory."""
    size = DataType(sch.get(rows).writes[0].source.dtype).bits // 8
    place = lambda n: tile.rows * (n + QUAD) + tile.columns * n  # noqa: E731
    depth = pick(sch, choices, "depth", DEPTHS, limits.depth)
    return halved(depth, lambda n: size * place(n) <= limits.memory)


OFFERS = {**one_row.OFFERS, **tile.OFFERS, "depth": DEPTHS}
RULE = Rule("vulkan-matmul", matmul, frozenset({"matmul"}), offers=OFFERS)
