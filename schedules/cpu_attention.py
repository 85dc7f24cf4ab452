"""Attention in one kernel: tasks in parallel, its two small matmuls in vector registers.

The nest itself is written out in the operator (compiler/ops/attention_tiles.py); what is chosen
here is how the loops inside a tile run. Scores: rows by 16 positions, as a matmul over panels of
keys. Values: rows by two or three vectors of columns.
"""

import tvm
from tvm.s_tir import Schedule

from .cpu_elementwise import vectorize
from .cpu_matmul import LANES
from .rule import Rule, blocks, find, pattern_of

VECTOR = 8
SUMS = 12
"""Accumulators of 8 lanes: with operands they fill 16 registers, and hide the latency of FMA."""
STEPS_UNROLLED = 4


def attention(sch: Schedule, target: tvm.target.Target, tunable: bool = False) -> bool:
    """Everything between the query rows and the normalised result happens inside one tile."""
    if not find(sch, "attention"):
        return False
    for view in blocks(sch):  # splitting qkv into heads, rotating queries
        if not pattern_of(sch, view):
            sch.compute_inline(view)
    for name in ("query_rows", "packed"):
        for packed in find(sch, name):
            _packed(sch, packed)
    sch.parallel(sch.get_loops(sch.get_sblock("task"))[0])
    _scores(sch, sch.get_sblock("scores"))
    for name in ("mix", "edge"):
        _mix(sch, sch.get_sblock(name))
    return True


def _packed(sch: Schedule, block) -> None:
    sch.parallel(sch.get_loops(block)[0])
    vectorize(sch, sch.get_loops(block)[-1])


def _scores(sch: Schedule, block) -> None:
    store = sch.cache_write(block, 0, "local")
    panel, row, lane, e = sch.get_loops(block)
    outer, inner = sch.split(row, [None, _height(sch, row, LANES // VECTOR)])
    step, unrolled = sch.split(e, [None, _unroll(sch, e)])
    sch.reorder(panel, outer, step, unrolled, inner, lane)
    sch.vectorize(lane)
    sch.unroll(unrolled)
    sch.unroll(inner)
    sch.reverse_compute_at(store, outer)
    _registers(sch, store, 2)
    _registers(sch, sch.decompose_reduction(block, step), 2)


def _mix(sch: Schedule, block) -> None:
    store = sch.cache_write(block, 0, "local")
    row, column, b, j = sch.get_loops(block)
    height, width, vectors = _tile(int(sch.get(row).extent), int(sch.get(column).extent))
    outer, vector, lane = sch.split(column, [None, vectors, width])
    row_outer, row_inner = sch.split(row, [None, height])
    step, unrolled = sch.split(j, [None, _unroll(sch, j)])
    sch.reorder(outer, row_outer, b, step, unrolled, row_inner, vector, lane)
    sch.vectorize(lane)
    for loop in (unrolled, row_inner, vector):
        sch.unroll(loop)
    sch.reverse_compute_at(store, row_outer)
    sch.split(sch.get_loops(store)[-1], [None, width])
    _registers(sch, store, 3)
    _registers(sch, sch.decompose_reduction(block, b), 3)


def _height(sch: Schedule, row, vectors: int) -> int:
    """Rows of a register tile that is `vectors` wide."""
    return max(n for n in _divisors(int(sch.get(row).extent)) if n * vectors <= SUMS)


def _tile(rows: int, columns: int) -> tuple[int, int, int]:
    """Height, lanes and vectors of a register tile: most sums first, then fewest loads.

    Twelve sums leave four of 16 registers, for one factor and up to three vectors of the other.
    """
    width = next(n for n in (VECTOR, 4, 2, 1) if columns % n == 0)
    tiles = [
        (height * vectors, vectors <= 3, -(height + vectors), height, vectors)
        for height in _divisors(rows)
        for vectors in _divisors(columns // width)
        if height * vectors <= SUMS
    ]
    *_, height, vectors = max(tiles)
    return height, width, vectors


def _divisors(extent: int) -> list[int]:
    return [n for n in range(1, extent + 1) if extent % n == 0]


def _unroll(sch: Schedule, loop) -> int:
    extent = int(sch.get(loop).extent)
    return next(n for n in (STEPS_UNROLLED, 2, 1) if extent % n == 0)


def _registers(sch: Schedule, block, depth: int) -> None:
    """The `depth` innermost loops go over a tile that stays in vector registers."""
    *rows, lane = sch.get_loops(block)[-depth:]
    sch.vectorize(lane)
    for row in rows:
        sch.unroll(row)


RULE = Rule("cpu-attention", attention, frozenset({"attention"}))
