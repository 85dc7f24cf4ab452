"""Matmul in tile registers: rows packed in tiles (tiles of rows, steps, 16, inputs) times panels.

A task owns two panels of 16 outputs and walks down a block of rows that, packed, takes half of the
L2 cache; the next task takes the next panels and finds the rows there. Sums leave the tiles once
per 32 rows x 32 outputs and go through the epilogue.

Proven by emulation and by the assembly, not timed: see amx_instructions.py.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.amx_instructions import PRODUCTS, ROW_BYTES, TILE
from ..isa.amx_int4 import nibbles_intrinsic
from ..isa.amx_intrinsics import block_of, tile_intrinsic
from ..rule import Apply, Rule, find
from ..tiling import clear, divisors, inline_epilogue, vectorize_last
from .elementwise import vectorize

L2 = 2 << 20
"""Bytes per core where nobody says: what every CPU with AMX has so far."""
BLOCKS = (1, 2, 4, 8, 16, 32, 64)
"""Blocks of rows that a task may walk down before the next panels."""
PATTERN_OF = {f"tile-{name}": product for name, product in PRODUCTS.items()}


def on_cache(l2: int) -> Apply:
    """The rule for a core with `l2` bytes of L2 cache: the schedule of one matmul."""

    def tiles(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
        return schedule_tiles(sch, choices, l2=l2)

    return tiles


def schedule_tiles(sch: Schedule, choices: Choices = DEFAULTS, l2: int = L2) -> bool:
    """One matmul in tiles with its epilogue."""
    found = [(name, block) for name in PATTERN_OF for block in find(sch, name)]
    if len(found) != 1:
        return False
    ((name, sums),) = found
    last = inline_epilogue(sch, sums)
    p, r, i, j, s, *inner = sch.get_loops(sums)
    block, steps = block_of(_extent(sch, p)), _extent(sch, s)
    task, panel = sch.split(p, [None, block.panels])
    rows, row_tile = sch.split(r, [None, block.rows])
    size = block.rows * TILE * steps * ROW_BYTES
    blocks, rows = sch.split(rows, [None, _rows_per_block(sch, rows, size, l2, choices)])
    around, within = ([s], []) if steps == 1 else ([], [s])  # a single step is no loop inside
    sch.reorder(blocks, task, rows, *around, panel, row_tile, i, j, *within, *inner)
    task = sch.fuse(blocks, task)
    sch.parallel(task)
    sch.reverse_compute_at(last, rows)
    vectorize_last(sch, last)
    for words in find(sch, "words"):
        sch.compute_at(words, task)
        sch.tensorize(sch.get_loops(words)[-2], nibbles_intrinsic())
    clear(sch, sums, [*around, panel][0], 2)
    # The last block of rows may be short: that condition stays outside, on a block of its own,
    # because tensorize takes none.
    sch.blockize(panel if block.panels > 1 else row_tile)
    sch.tensorize(sch.get_loops(sums)[0], tile_intrinsic(PATTERN_OF[name], block, steps))
    for packed in find(sch, "rows"):
        _pack_rows(sch, packed)
    return True


def _rows_per_block(sch: Schedule, rows, size: int, l2: int, choices: Choices):
    """How many blocks of sums, each with `size` bytes of rows, share the L2 cache."""
    fitting = max(1, l2 // 2 // size)
    known = isinstance(sch.get(rows).extent, tirx.IntImm)
    offered = divisors(sch, rows, BLOCKS) if known else BLOCKS
    return choices.pick(sch, "rows_per_block", offered, fitting)


def _pack_rows(sch: Schedule, rows) -> None:
    loops = sch.get_loops(rows)
    sch.parallel(loops[0])
    vectorize(sch, loops[-1])


def _extent(sch: Schedule, loop) -> int:
    extent = sch.get(loop).extent
    assert isinstance(extent, tirx.IntImm), extent
    return int(extent)


RULE = Rule("cpu-tiles", on_cache(L2), frozenset(PATTERN_OF), on_cache, {"rows_per_block": BLOCKS})
