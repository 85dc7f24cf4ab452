"""Attention in one kernel: parallel tasks, with both small matmuls in vector registers.

The operator (compiler/ops/attention_tiles.py) writes out the loop nest, which attention_blocking.py
may replace; this rule schedules the loops inside a tile. Scores: rows by 16 positions, a matmul
over panels of keys. Values: rows by two or three vectors of columns.
"""

from collections.abc import Sequence

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.register_tiles import LANES, ZMM_FLOATS
from ..isa.score_products import ScoreProducts, find_score_products
from ..replace_nest import in_scope
from ..rule import MULTIPLY_ADDS, Rule, blocks, find, pattern_of
from ..select import find_units
from ..tiling import clear, is_one, keep_in_registers, settled
from .attention_blocking import OFFERS, Rows, choose_blocking, divisors_of
from .attention_prefetch import PREFETCH, add_prefetches, by_default
from .attention_shape import TILING, Blocking
from .elementwise import SERIAL_BELOW, elements, vectorize

CODING = ("mean_task", "query_task", "key_task")
"""Tasks that prepare integer queries and keys (compiler/ops/integer_attention.py)."""
VECTOR = 8
SUMS = 12
"""Accumulators of 8 lanes. With operands they fill 16 registers, and they hide FMA latency."""
SUMS_OF_HALVES = 9
"""Accumulators of weights times values where 8 lanes are two of 32 registers, as on ARM: LLVM loads
weights of neighbouring positions in pairs, and beside 24 sums some would go through the stack."""
STEPS_UNROLLED = 4
STEPS, VECTORS = (1, 2, 4, 8), 4
"""Offered unroll factors, and the largest offered number of column vectors."""


def attention(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule attention so that a tile computes everything from query rows to normalised result.

    Returns False if the function has no attention block.
    """
    return schedule_attention(sch, target, choices, find_score_products(target))


def schedule_attention(
    sch: Schedule, target: tvm.target.Target, choices: Choices, products: ScoreProducts | None
) -> bool:
    """Like `attention`, with other products of integers than the target's."""
    if not find(sch, "attention"):
        return False
    for view in blocks(sch):  # split qkv into heads, rotate queries
        if not pattern_of(sch, view):
            sch.compute_inline(view)
    rows, blocking = choose_blocking(sch, choices, products)
    for name in ("query_rows", "packed"):
        for packed in find(sch, name):
            _packed(sch, packed)
    if blocking.products:
        for name in CODING:
            sch.parallel(sch.get_loops(sch.get_sblock(name))[0])
    sch.parallel(sch.get_loops(sch.get_sblock("task"))[0])
    units, one = find_units(target), is_one(_note(sch, MULTIPLY_ADDS)[1])
    wide = units.floats is ZMM_FLOATS
    sums = SUMS if wide else SUMS // (LANES // VECTOR)
    if not blocking.products:
        _scores(sch, rows, blocking, choices, sums)
    # One query has few rows: whole columns, so one pass over memory.
    widest = LANES if wide and one else VECTOR
    _mix(sch, "mix", rows, choices, widest, SUMS if units.on_x86 else SUMS_OF_HALVES)
    _mix(sch, "edge", rows, choices, widest, SUMS)
    if one and settled(sch, choices.pick(sch, "prefetch", PREFETCH, by_default(units))):
        add_prefetches(sch, blocking.chunk, in_scope(sch, _note(sch, TILING)[1]))
    return True


def _note(sch: Schedule, name: str) -> Sequence:
    """An annotation of the operator's nest."""
    (block,) = find(sch, "attention")
    return sch.get(block).annotations[name]


def _packed(sch: Schedule, block) -> None:
    loops = sch.get_loops(block)
    if elements(sch, loops) >= SERIAL_BELOW:
        sch.parallel(loops[0])
    vectorize(sch, loops[-1])


def _scores(sch: Schedule, rows: Rows, blocking: Blocking, choices: Choices, sums: int) -> None:
    """Rows by one panel of 16 positions, over head_dim. `sums` rows fill the accumulators."""
    fitting = divisors_of(rows.default, sums)[-1]
    height = _rows(sch, "scores", rows, fitting, choices)
    e = sch.get_loops(sch.get_sblock("scores"))[-1]
    steps = _unroll(sch, "scores.unroll", e, choices)
    for name in ("scores", "peak_scores")[: blocking.passes]:
        _score(sch, sch.get_sblock(name), height, steps)


def _score(sch: Schedule, block, height: int, steps: int) -> None:
    store = sch.cache_write(block, 0, "local")
    panel, row, lane, e = sch.get_loops(block)
    outer, inner = sch.split(row, [None, height])
    step, unrolled = sch.split(e, [None, steps])
    sch.reorder(panel, outer, step, unrolled, inner, lane)
    sch.vectorize(lane)
    sch.unroll(unrolled)
    sch.unroll(inner)
    sch.reverse_compute_at(store, outer)
    keep_in_registers(sch, store, 2)
    clear(sch, block, step, 2)


def _mix(sch: Schedule, name: str, rows: Rows, choices: Choices, widest: int, sums: int) -> None:
    """Rows by a few vectors of columns, over the positions of all panels in the chunk.

    `widest`: the most lanes of a vector. `sums`: the most accumulators by default.
    """
    block = sch.get_sblock(name)
    store = sch.cache_write(block, 0, "local")
    row, column, b, j = sch.get_loops(block)
    columns = _extent(sch, column)
    lanes = next(n for n in (widest, VECTOR, 4, 2, 1) if columns % n == 0)
    widths = divisors_of(columns // lanes, VECTORS)
    height, width = _tile(divisors_of(rows.default, SUMS), widths, sums)
    width = choices.pick(sch, f"{name}.columns", widths, width)
    outer, vector, lane = sch.split(column, [None, width, lanes])
    row_outer, row_inner = sch.split(row, [None, _rows(sch, name, rows, height, choices)])
    step, unrolled = sch.split(j, [None, _unroll(sch, f"{name}.unroll", j, choices)])
    sch.reorder(outer, row_outer, b, step, unrolled, row_inner, vector, lane)
    sch.vectorize(lane)
    for loop in (unrolled, row_inner, vector):
        sch.unroll(loop)
    sch.reverse_compute_at(store, row_outer)
    sch.split(sch.get_loops(store)[-1], [None, lanes])
    keep_in_registers(sch, store, 3)
    clear(sch, block, b, 3)


def _rows(sch: Schedule, name: str, rows: Rows, default: int, choices: Choices) -> int:
    """Rows of a register tile: the choice, or the next smaller divisor of the tile."""
    options = rows.register_tiles(SUMS)
    return rows.within(settled(sch, choices.pick(sch, f"{name}.rows", options, default)))


def _tile(heights: list[int], widths: list[int], most: int) -> tuple[int, int]:
    """Rows and column vectors of a register tile: most sums first, then fewest loads.

    Twelve sums leave four of 16 registers: one for one operand, up to three for the other.
    """
    tiles = [
        (height * width, width <= 3, -(height + width), height, width)
        for height in heights
        for width in widths
        if height * width <= most
    ]
    *_, height, width = max(tiles)
    return height, width


def _unroll(sch: Schedule, name: str, loop, choices: Choices) -> int:
    options = [n for n in STEPS if _extent(sch, loop) % n == 0]
    return settled(sch, choices.pick(sch, name, options, STEPS_UNROLLED))


def _extent(sch: Schedule, loop) -> int:
    return int(sch.get(loop).extent)


REGISTER_TILES = {
    f"{part}.{choice}": values
    for part in ("scores", "mix", "edge")
    for choice, values in (
        ("rows", range(1, SUMS + 1)),
        ("columns", range(1, VECTORS + 1)),
        ("unroll", STEPS),
    )
    if (part, choice) != ("scores", "columns")
}
RULE = Rule(
    "cpu-attention",
    attention,
    frozenset({"attention"}),
    offers={**OFFERS, **REGISTER_TILES, "prefetch": PREFETCH},
)
