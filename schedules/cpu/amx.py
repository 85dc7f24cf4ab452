"""Matmul in AMX tile registers: rows packed as (row tiles, steps, 16, inputs), times panels.

A task owns two panels of 16 outputs and iterates over a block of rows that, packed, fills half of
the L2 cache. The next task takes the next panels and reads the same rows from the cache. Sums leave
the tiles once per 32 rows x 32 outputs and pass through the epilogue.

Verified by emulation and by inspecting the assembly, not timed: see amx_instructions.py.
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
"""Default L2 cache per core in bytes: the size on every CPU with AMX so far."""
BLOCKS = (1, 2, 4, 8, 16, 32, 64)
"""Offered numbers of row blocks that a task processes before the next panels."""
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
    block, steps = block_of(_extent(sch, p)), _extent(sch, s)
    task, panel = sch.split(p, [None, block.panels])
    rows, row_tile = sch.split(r, [None, block.rows])
    size = block.rows * TILE * steps * ROW_BYTES
    blocks, rows = sch.split(rows, [None, _rows_per_block(sch, rows, size, l2, choices)])
    around, within = ([s], []) if steps == 1 else ([], [s])  # a single step has no inner loop
    sch.reorder(blocks, task, rows, *around, panel, row_tile, i, j, *within, *inner)
    task = sch.fuse(blocks, task)
    sch.parallel(task)
    sch.reverse_compute_at(last, rows)
    vectorize_last(sch, last)
    for words in find(sch, "words"):
        sch.compute_at(words, task)
        sch.tensorize(sch.get_loops(words)[-2], nibbles_intrinsic())
    clear(sch, sums, [*around, panel][0], 2)
    # The last row block may be partial. Its predicate stays on a separate outer block, because
    # tensorize accepts no predicate.
    sch.blockize(panel if block.panels > 1 else row_tile)
    sch.tensorize(sch.get_loops(sums)[0], tile_intrinsic(PATTERN_OF[name], block, steps))
    for packed in find(sch, "rows"):
        _pack_rows(sch, packed)
    return True


def _rows_per_block(sch: Schedule, rows, size: int, l2: int, choices: Choices):
    """Number of blocks of sums, each reading `size` bytes of rows, that share the L2 cache."""
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
