"""Matmul in AMX tile registers: rows packed as (row tiles, steps, 16, inputs), times panels.

A task owns two panels of 16 outputs and iterates over a block of rows that stays in the L2 cache;
the panels' weights stay in L1 as far as they fit, because rows are loaded past it. The next task
takes the next panels and reads the same rows. Sums leave the tiles once per 32 rows x 32 outputs
and pass through the epilogue while the next block multiplies (amx_nest.py).

What limits it on the machine where it was timed is in docs/performance.md.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.amx_instructions import PRODUCTS, ROW_BYTES, TILE
from ..isa.amx_int4 import nibbles_intrinsic
from ..isa.amx_intrinsics import Block, Order, block_of, tile_intrinsic
from ..rule import Apply, Rule, find
from ..tiling import ONCE, UNPACKED, divisors, inline_epilogue, settled, vectorize_last
from .amx_epilogue import has_whole_lines
from .amx_nest import PAST_CACHES, RESULTS, Pace, complete
from .elementwise import vectorize
from .tasks import PER_TASK, in_tasks, parallel

L2 = 2 << 20
"""Default L2 cache per core in bytes: the size on every CPU with AMX so far."""
BLOCKS = (1, 2, 4, 8, 16, 32, 64)
"""Offered numbers of row blocks that a task processes before the next panels."""
ROWS, PANELS = (2, 4), (1, 2)
"""Offered row tiles and panels of a block of sums."""
UNROLLS = (1, 2, 4)
"""Offered steps of the input per iteration."""
SWITCH = (0, 1)
"""No and yes: whether rows bypass L1, and parts of `Pace`."""
ROWS_SHARING = 512
"""Most rows of a block by default."""
PATTERN_OF = {f"tile-{name}": product for name, product in PRODUCTS.items()}


def on_cache(l2: int) -> Apply:
    """The schedule of one matmul for a core with `l2` bytes of L2 cache."""

    def tiles(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
        return schedule_tiles(sch, choices, l2=l2)

    return tiles


def schedule_tiles(sch: Schedule, choices: Choices = DEFAULTS, l2: int = L2) -> bool:
    """Schedule one matmul in tiles with its epilogue."""
    found = [(name, block) for name in PATTERN_OF for block in find(sch, name)]
    if len(found) != 1:
        return False
    ((name, sums),) = found
    last = inline_epilogue(sch, sums)
    p, r, i, j, s, *inner = sch.get_loops(sums)
    most, count = block_of(_extent(sch, p)), _extent(sch, p)
    block, steps = _choose_block(sch, most, choices), _extent(sch, s)
    order = _choose_order(sch, s, choices)
    pace = _choose_pace(sch, last, choices)
    size = most.rows * TILE * steps * ROW_BYTES
    per_block = _rows_per_block(sch, r, most.rows, size, l2, choices)
    task, panel = sch.split(p, [None, block.panels])
    rows, row_tile = sch.split(r, [None, block.rows])
    blocks, rows = sch.split(rows, [None, per_block])
    around, within = ([s], []) if steps == 1 else ([], [s])  # a single step has no inner loop
    sch.reorder(blocks, task, rows, *around, panel, row_tile, i, j, *within, *inner)
    task = sch.fuse(blocks, task)
    per_task = parallel(sch, task, choices, count // most.panels, PER_TASK[:-1])
    sch.reverse_compute_at(last, rows)
    vectorize_last(sch, last)
    _unpack_words(sch, task, rows, choices)
    # The last row block may be partial. Its predicate stays on a separate outer block, because
    # tensorize accepts no predicate.
    sch.blockize(panel if block.panels > 1 else row_tile)
    name = tile_intrinsic(PATTERN_OF[name], block, steps, order)
    sch.tensorize(sch.get_loops(sums)[0], name)
    for packed in find(sch, "rows"):
        _pack_rows(sch, packed)
    complete(sch, rows, block, pace)
    # Not serial: the phase `tiles` configures the tiles of a parallel loop.
    in_tasks(sch, task, per_task)
    return True


def _choose_block(sch: Schedule, most: Block, choices: Choices) -> Block:
    """Row tiles and panels whose sums are in registers; rows are packed for `most` of them."""
    rows = choices.pick(sch, "tile_rows", [n for n in ROWS if n <= most.rows], most.rows)
    panels = choices.pick(sch, "tile_panels", [n for n in PANELS if n <= most.panels], most.panels)
    return Block(settled(sch, rows), settled(sch, panels))


def _choose_order(sch: Schedule, steps, choices: Choices) -> Order:
    unroll = choices.pick(sch, "unroll", divisors(sch, steps, UNROLLS), 1)
    streamed = choices.pick(sch, "streamed", SWITCH, 1)
    return Order(settled(sch, unroll), bool(settled(sch, streamed)))


def _choose_pace(sch: Schedule, last, choices: Choices) -> Pace:
    """`last` is the block of the epilogue."""
    ways = RESULTS if has_whole_lines(sch.get(last).writes[0].source) else RESULTS[:PAST_CACHES]
    overlapped = settled(sch, choices.pick(sch, "overlap", SWITCH, 1))
    results = settled(sch, choices.pick(sch, "results", ways, max(ways)))
    given = not find(sch, "words")
    ahead = given and settled(sch, choices.pick(sch, "ahead", SWITCH, 1))
    return Pace(bool(overlapped), results, bool(ahead))


def _rows_per_block(sch: Schedule, rows, unit: int, size: int, l2: int, choices: Choices):
    """Number of blocks of sums that share the L2 cache; each reads at most `size` bytes of rows.

    More rows make the weights' way from memory cheap; rows beyond half of the cache take it from
    the weights and the sums.
    """
    fitting = max(1, min(ROWS_SHARING // (unit * TILE), l2 // 2 // size))
    fitting = 1 << (fitting.bit_length() - 1)
    known = isinstance(sch.get(rows).extent, tirx.IntImm)
    offered = divisors(sch, rows, BLOCKS, unit) if known else BLOCKS
    return choices.pick(sch, "rows_per_block", offered, fitting)


def _unpack_words(sch: Schedule, task, rows, choices: Choices) -> None:
    """Unpack stored words once per task, or again for each block of sums."""
    for words in find(sch, "words"):
        where = settled(sch, choices.pick(sch, "unpacked", UNPACKED, ONCE))
        sch.compute_at(words, task if where == ONCE else rows)
        sch.tensorize(sch.get_loops(words)[-2], nibbles_intrinsic())


def _pack_rows(sch: Schedule, rows) -> None:
    loops = sch.get_loops(rows)
    sch.parallel(loops[0])
    vectorize(sch, loops[-1])


def _extent(sch: Schedule, loop) -> int:
    extent = sch.get(loop).extent
    assert isinstance(extent, tirx.IntImm), extent
    return int(extent)


OFFERS = {
    "tile_rows": ROWS,
    "tile_panels": PANELS,
    "unroll": UNROLLS,
    "rows_per_block": BLOCKS,
    "per_task": PER_TASK[:-1],
    "overlap": SWITCH,
    "results": RESULTS,
    "ahead": SWITCH,
    "streamed": SWITCH,
    "unpacked": UNPACKED,
}
RULE = Rule("cpu-tiles", on_cache(L2), frozenset(PATTERN_OF), on_cache, OFFERS)
