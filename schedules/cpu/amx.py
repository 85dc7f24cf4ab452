"""Matmul in AMX tile registers: rows packed as (row tiles, steps, 16, inputs), times panels.

A task owns two panels of 16 outputs and iterates over a block of rows that stays in the L2 cache;
the panels' weights stay in L1 as far as they fit, because rows are loaded past it. The next task
takes the next panels and reads the same rows. Sums leave the tiles once per 32 rows x 32 outputs
and pass through the epilogue while the next block multiplies (amx_nest.py). 4-bit weights are
unpacked by chunks of the input, which sums are carried through (amx_chunks.py).

What limits it on the machine where it was timed is in docs/performance.md.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from ..choices import DEFAULTS, Choices
from ..isa.amx_instructions import PRODUCTS, ROW_BYTES, TILE
from ..isa.amx_int4 import Unpacking, nibbles_intrinsic
from ..isa.amx_intrinsics import Block, Order, block_of, tile_intrinsic
from ..isa.register_tiles import ZMM_FLOATS
from ..rule import Apply, Rule, find
from ..select import find_units
from ..tiling import ONCE, UNPACKED, divisors, inline_epilogue, settled, vectorize_last
from .amx_chunks import Nest, complete_chunks
from .amx_epilogue import has_whole_lines
from .amx_nest import FETCHED, PAST_CACHES, PLAIN, RESULTS, Pace, complete
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
LEAST_CHUNK, CHUNK = 8, 16
"""Steps whose weights are unpacked at once by default; 16, of two panels, are 32 KB of L1."""
ALL_STEPS = 1 << 16
OFFERED_CHUNKS = (4, 8, 12, 16, 20, 24, 32, ALL_STEPS)
SHORT = 8
"""An epilogue with fewer multiplications waits for the memory that it writes."""
SWITCH = (0, 1)
"""No and yes: whether rows bypass L1, and parts of `Pace`."""
ROWS_SHARING, ROWS_SHARING_WORDS = 512, 256
"""Most rows of a block by default, also if the weights are unpacked for each block."""
PATTERN_OF = {f"tile-{name}": product for name, product in PRODUCTS.items()}


def on_cache(l2: int) -> Apply:
    """The schedule of one matmul for a core with `l2` bytes of L2 cache."""

    def tiles(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
        return schedule_tiles(sch, choices, l2, find_units(target).floats is ZMM_FLOATS)

    return tiles


def schedule_tiles(
    sch: Schedule, choices: Choices = DEFAULTS, l2: int = L2, avx512: bool = False
) -> bool:
    """Schedule one matmul in tiles with its epilogue."""
    found = [(name, block) for name in PATTERN_OF for block in find(sch, name)]
    if len(found) != 1:
        return False
    ((name, sums),) = found
    last = inline_epilogue(sch, sums)
    panels, (r, _, _, s, *_) = _loops_of(sch, sums)
    count, steps = prod(_extent(sch, loop) for loop in panels), _extent(sch, s)
    most = block_of(count)
    block = _choose_block(sch, most, choices, len(panels))
    order = _choose_order(sch, s, choices)
    unpacks = bool(find(sch, "words"))
    pace = _choose_pace(sch, last, choices, unpacks)
    size = most.rows * TILE * steps * ROW_BYTES
    per_block = _rows_per_block(sch, r, most.rows, size, l2, choices)
    chunk = _steps_per_chunk(sch, s, choices)
    nest, first = _order_loops(sch, sums, block, per_block, chunk)
    if len(panels) > 1:
        nest = _with_epilogue(sch, nest, last, block)
    per_task = parallel(sch, nest.task, choices, count // most.panels, PER_TASK[:-1])
    if len(panels) == 1:
        sch.reverse_compute_at(last, nest.rows if nest.is_inside else nest.task)
    vectorize_last(sch, last)
    _unpack_words(sch, nest, choices, avx512)
    # The last row block may be partial. Its predicate stays on a separate outer block, because
    # tensorize accepts no predicate.
    sch.blockize(first)
    name = tile_intrinsic(PATTERN_OF[name], block, chunk, order)
    sch.tensorize(sch.get_loops(sums)[0], name)
    for packed in find(sch, "rows"):
        _pack_rows(sch, packed)
    if unpacks:
        complete_chunks(sch, nest, last, block, pace.results == FETCHED)
    else:
        complete(sch, nest.rows, block, pace)
    # Not serial: the phase `tiles` configures the tiles of a parallel loop.
    in_tasks(sch, nest.task, per_task)
    return True


def _order_loops(sch: Schedule, sums, block: Block, per_block, chunk: int) -> tuple[Nest, LoopRV]:
    """The loops around a block of sums, and the first loop of one."""
    panels, (r, i, j, s, *inner) = _loops_of(sch, sums)
    steps = _extent(sch, s)
    task, panel = panels if len(panels) > 1 else sch.split(*panels, [None, block.panels])
    rows, row_tile = sch.split(r, [None, block.rows])
    blocks, rows = sch.split(rows, [None, per_block])
    chunks, s = sch.split(s, [None, chunk]) if chunk < steps else (None, s)
    around, within = ([s], []) if steps == 1 else ([], [s])  # a single step has no inner loop
    outer = [blocks, task, chunks, rows] if chunks else [blocks, task, rows]
    sch.reorder(*outer, *around, panel, row_tile, i, j, *within, *inner)
    first = panel if block.panels > 1 else row_tile
    nest = Nest(sch.fuse(blocks, task), rows, chunks, block.panels, not chunks)
    return nest, first


def _with_epilogue(sch: Schedule, nest: Nest, last, block: Block) -> Nest:
    """Let tasks compute the columns of their pair of panels.

    No primitive moves a block that reads two panels, but loops of the same extent can be merged.
    """
    row, column = sch.get_loops(last)
    blocks, row = sch.split(row, [None, _extent(sch, nest.rows) * block.rows * TILE])
    panel, column = sch.split(column, [None, TILE])
    sch.reorder(blocks, panel, row, column)
    task = sch.merge(nest.task, sch.fuse(blocks, panel))
    return replace(nest, task=task, vectors=1, is_inside=False)


def _loops_of(sch: Schedule, sums) -> tuple[list[LoopRV], list[LoopRV]]:
    """The loops over panels, or over pairs of them and their two panels, and those below."""
    loops, inner = sch.get_loops(sums), 3  # row tiles, rows and outputs of a tile
    count = len(sch.get(sums).writes[0].source.shape) - inner
    return loops[:count], loops[count:]


def _choose_block(sch: Schedule, most: Block, choices: Choices, least: int) -> Block:
    """Row tiles and panels whose sums are in registers; rows are packed for `most` of them.

    `least` is the number of panels that the epilogue needs together.
    """
    rows = choices.pick(sch, "tile_rows", [n for n in ROWS if n <= most.rows], most.rows)
    offered = [n for n in PANELS if least <= n <= most.panels]
    panels = choices.pick(sch, "tile_panels", offered, most.panels)
    return Block(settled(sch, rows), settled(sch, panels))


def _choose_order(sch: Schedule, steps, choices: Choices) -> Order:
    unroll = choices.pick(sch, "unroll", divisors(sch, steps, UNROLLS), 1)
    streamed = choices.pick(sch, "streamed", SWITCH, 1)
    return Order(settled(sch, unroll), bool(settled(sch, streamed)))


def _choose_pace(sch: Schedule, last, choices: Choices, unpacks: bool) -> Pace:
    """`last` is the block of the epilogue."""
    if unpacks:  # results pass through the caches, after the products
        default = FETCHED if _is_short(sch, last) else PLAIN
        return Pace(
            False, settled(sch, choices.pick(sch, "results", (PLAIN, FETCHED), default)), False
        )
    ways = RESULTS if has_whole_lines(sch.get(last).writes[0].source) else RESULTS[:PAST_CACHES]
    overlapped = settled(sch, choices.pick(sch, "overlap", SWITCH, 1))
    results = settled(sch, choices.pick(sch, "results", ways, max(ways)))
    ahead = settled(sch, choices.pick(sch, "ahead", SWITCH, 1))
    return Pace(bool(overlapped), results, bool(ahead))


def _is_short(sch: Schedule, epilogue) -> bool:
    """Whether the epilogue stores as fast as it can, rather than computing an activation."""
    products: list[tirx.Mul] = []
    tvm_ffi.structural_walk(sch.get(epilogue).body, (tirx.Mul, products.append))
    return len(products) < SHORT


def _rows_per_block(sch: Schedule, rows, unit: int, size: int, l2: int, choices: Choices):
    """Number of blocks of sums that share the L2 cache; each reads at most `size` bytes of rows.

    More rows make the weights' way from memory cheap; rows beyond half of the cache take it from
    the weights and the sums.
    """
    sharing = ROWS_SHARING_WORDS if find(sch, "words") else ROWS_SHARING
    fitting = max(1, min(sharing // (unit * TILE), l2 // 2 // size))
    fitting = 1 << (fitting.bit_length() - 1)
    known = isinstance(sch.get(rows).extent, tirx.IntImm)
    offered = divisors(sch, rows, BLOCKS, unit) if known else BLOCKS
    return choices.pick(sch, "rows_per_block", offered, fitting)


def _steps_per_chunk(sch: Schedule, steps, choices: Choices) -> int:
    """Steps of the input whose weights are unpacked at once."""
    extent = _extent(sch, steps)
    if not find(sch, "words"):
        return extent
    unroll = max(divisors(sch, steps, UNROLLS))
    offered = [n for n in OFFERED_CHUNKS if n < extent and extent % n == 0 and n % unroll == 0]
    fitting = [n for n in offered if LEAST_CHUNK <= n <= CHUNK]
    default = max(fitting) if fitting and extent > CHUNK else ALL_STEPS
    return min(settled(sch, choices.pick(sch, "chunk", [*offered, ALL_STEPS], default)), extent)


def _unpack_words(sch: Schedule, nest: Nest, choices: Choices, avx512: bool) -> None:
    """Unpack stored words once per task or chunk, or again for each block of sums."""
    for words in find(sch, "words"):
        where = settled(sch, choices.pick(sch, "unpacked", UNPACKED, ONCE))
        sch.compute_at(words, (nest.chunks or nest.task) if where == ONCE else nest.rows)
        awake = bool(settled(sch, choices.pick(sch, "awake", SWITCH, 1)))
        intrinsic = nibbles_intrinsic(Unpacking(awake, avx512))
        sch.tensorize(sch.get_loops(words)[-2], intrinsic)


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
    "chunk": OFFERED_CHUNKS,
    "awake": SWITCH,
}
RULE = Rule("cpu-tiles", on_cache(L2), frozenset(PATTERN_OF), on_cache, OFFERS)
