"""Attention in one kernel: a task owns a head and walks over tiles of 4 query rows.

For a tile the scores of all positions fit the L2 cache (4 x 4096 x 4 bytes = 64 KB), so the softmax
takes two sweeps over them and no online rescaling. Scores: 4 rows x 16 positions in registers, as a
matmul over panels; values: 4 rows by up to 3 vectors of columns.
"""

import tvm
from tvm.s_tir import Schedule

from .cpu_elementwise import vectorize
from .rule import Rule, blocks, find, pattern_of

ROWS = 4
VECTOR = 8


def attention(sch: Schedule, target: tvm.target.Target, tunable: bool = False) -> bool:
    """Everything between the query rows and the normalised result happens inside one tile."""
    if not find(sch, "attention"):
        return False
    for view in blocks(sch):  # splitting qkv into heads, rotating queries
        if not pattern_of(sch, view):
            sch.compute_inline(view)
    block = {sch.get(b).name_hint: b for b in find(sch, "attention")}
    unpadded = find(sch, "unpadded")[0]
    task, r, _ = sch.get_loops(block["normalised"])
    tile, _ = sch.split(r, [None, ROWS])
    sch.parallel(task)
    sch.reverse_compute_at(unpadded, tile)
    for name in ("mix", "total", "total_lanes", "weights", "peak", "peak_lanes", "scores"):
        sch.compute_at(block[name], tile, preserve_unit_loops=True)
    for copied in (block["normalised"], unpadded):
        vectorize(sch, sch.get_loops(copied)[-1])
    _mix(sch, block["mix"])
    _lanes(sch, block["total_lanes"])
    _lanes(sch, block["peak_lanes"])
    sch.vectorize(sch.get_loops(block["weights"])[-1])
    _scores(sch, block["scores"])
    for name in ("query_rows", "packed", "attention_out"):
        for outer in find(sch, name):
            sch.parallel(sch.get_loops(outer)[0])
            vectorize(sch, sch.get_loops(outer)[-1])
    return True


def _scores(sch: Schedule, block) -> None:
    row, positions, lane, e = sch.get_loops(block)[-4:]
    sch.reorder(positions, e, row, lane)
    sch.vectorize(lane)
    sch.unroll(row)
    _init(sch, block, e, 2)


def _mix(sch: Schedule, block) -> None:
    """4 rows by up to 3 vectors of columns: enough independent sums to hide the latency of FMA."""
    row, column, b, j = sch.get_loops(block)[-4:]
    extent = int(sch.get(column).extent)
    width = next(n for n in (VECTOR, 4, 2, 1) if extent % n == 0)
    count = next(n for n in (3, 2, 1) if extent % (n * width) == 0)
    outer, vector, lane = sch.split(column, [None, count, width])
    sch.reorder(outer, b, j, row, vector, lane)
    position = sch.fuse(b, j)
    sch.vectorize(lane)
    sch.unroll(vector)
    sch.unroll(row)
    _init(sch, block, position, 3)


def _lanes(sch: Schedule, block) -> None:
    row, lane, b = sch.get_loops(block)[-3:]
    sch.reorder(row, b, lane)
    sch.vectorize(lane)
    sch.vectorize(sch.get_loops(sch.decompose_reduction(block, b))[-1])


def _init(sch: Schedule, block, reduction, depth: int) -> None:
    """Clear the tile, whose `depth` innermost loops stay in registers, before the sum begins."""
    *rows, lane = sch.get_loops(sch.decompose_reduction(block, reduction))[-depth:]
    sch.vectorize(lane)
    for row in rows:
        sch.unroll(row)


RULE = Rule("cpu-attention", attention, frozenset({"attention"}))
