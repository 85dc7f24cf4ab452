"""Integer matmul on a CPU: register tiles of rows x 16 outputs around one tensor intrinsic.

One row (decode): a stream over the weights, bound by memory. Many rows: a task owns a panel and
walks down the rows in register tiles, the panel staying in the L1 or L2 cache. How large a tile is
belongs to the instruction set (dot.py).
"""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.dot_instructions import instruction
from ..isa.dot_intrinsics import intrinsic
from ..isa.integer_isa import Codes, IntegerIsa, find_integer_isa
from ..isa.register_tiles import LANES, Tile
from ..rule import Rule, find
from ..tiling import (
    OFFERED_ROWS,
    clear,
    divisors,
    in_row_blocks,
    inline_epilogue,
    is_one,
    settled,
    tensorize,
    vectorize_last,
)
from .elementwise import vectorize

PANELS, PANELS_OF_ONE_ROW = (1, 2), (1, 2, 4, 8)
"""Panels side by side in a task."""
PARTS, COLUMNS = (1, 2, 3), (4, 8, 16)
"""Register tiles in the rows that padding adds up to, columns of one."""


def dot(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Default schedule of one integer matmul with its epilogue."""
    return schedule_dot(sch, find_integer_isa(target), choices)


def schedule_dot(
    sch: Schedule, isa: IntegerIsa, choices: Choices = DEFAULTS, emulate: bool = False
) -> bool:
    """The same for an instruction set by name; `emulate`: see `intrinsic`."""
    found = [(bits, block) for bits in (4, 7, 8) for block in find(sch, f"dot{bits}")]
    if len(found) != 1:
        return False
    (bits, sums), (scaled,) = found[0], find(sch, "scaled")
    tile = choose_tile(sch, register_tile(sch, scaled, isa.codes(bits)), isa, choices)
    name = intrinsic(isa, bits, tile.rows, tile.columns, emulate)
    if bits == 4:
        _grouped(sch, sums, scaled, tile, name, choices)
    else:
        _by_row(sch, sums, scaled, tile, name, instruction(isa, bits).steps == 1, choices)
    for padded in find(sch, "rows"):
        sch.parallel(sch.get_loops(padded)[0])
        vectorize(sch, sch.get_loops(padded)[-1])
    return True


def register_tile(sch: Schedule, scaled, codes: Codes) -> Tile:
    """One row takes whole panels, many rows what the instruction set has registers for."""
    one = is_one(sch.get(sch.get_loops(scaled)[0]).extent)
    return replace(codes.tile, rows=1, columns=LANES) if one else replace(codes.tile, panels=1)


def choose_tile(sch: Schedule, tile: Tile, isa: IntegerIsa, choices: Choices) -> Tile:
    """A part of the tile that rows were padded to. Rows that were copied tile by tile stay so."""
    if tile.rows == 1:
        return tile
    heights = [1] if _copied_by_tiles(sch) else [n for n in PARTS if tile.rows % n == 0]
    parts = choices.pick(sch, "tiles_per_padding", heights, 1)
    widths = [n for n in COLUMNS if isa.lanes <= n]
    columns = choices.pick(sch, "columns", widths, tile.columns)
    return replace(tile, rows=tile.rows // settled(sch, parts), columns=settled(sch, columns))


def _copied_by_tiles(sch: Schedule) -> bool:
    """Whether what a register tile reads of the rows was laid in a row: (tiles, ..., rows, ...)."""
    return any(len(sch.get(rows).writes[0].region) == 4 for rows in find(sch, "rows"))


def _grouped(sch: Schedule, sums, scaled, tile: Tile, name: str, choices: Choices) -> None:
    """The integer sums of one group, then their scaled values added to the tile."""
    _, panel, g = split_tile(sch, scaled, tile, choices)
    sch.compute_at(sums, panel, preserve_unit_loops=True)
    clear(sch, scaled, g, 3)
    *_, i, j, _, _, _ = sch.get_loops(sums)
    first = j if tile.rows == 1 else i
    clear(sch, sums, first, 2)
    tensorize(sch, sums, first, name)


def _by_row(
    sch: Schedule, sums, scaled, tile: Tile, name: str, single: bool, choices: Choices
) -> None:
    """The integer sums over the whole input, scaled once at the end."""
    place, _ = split_tile(sch, scaled, tile, choices)
    sch.compute_at(sums, place, preserve_unit_loops=True)
    *_, p, i, j, c, v, e = sch.get_loops(sums)
    if single:
        c = sch.fuse(c, v)
        sch.reorder(c, p, i, j, e)
    else:
        sch.reorder(c, p, i, j, v, e)
    sch.unroll(p)
    clear(sch, sums, c, 3)
    tensorize(sch, sums, j if tile.rows == 1 else i, name)


def split_tile(sch: Schedule, scaled, tile: Tile, choices: Choices) -> tuple:
    """Split the scaled sums; the loops tile, panel and, with groups, the one over them."""
    last = inline_epilogue(sch, scaled)
    i, p, lane, *reduction = sch.get_loops(scaled)
    options = divisors(sch, p, PANELS_OF_ONE_ROW if tile.rows == 1 else PANELS)
    task, panel = sch.split(p, [None, choices.pick(sch, "panels", options, tile.panels)])
    part, lane = sch.split(lane, [None, tile.columns])
    many = not is_one(sch.get(i).extent)  # before the tile is split off: a choice decides its size
    rows, row = sch.split(i, [None, tile.rows])
    if many:
        task, rows = in_row_blocks(sch, task, rows, choices)
    sch.reorder(task, rows, part, *reduction, panel, row, lane)
    sch.parallel(task)
    sch.vectorize(lane)
    sch.unroll(row)
    sch.unroll(panel)
    sch.reverse_compute_at(last, rows)  # of all parts: TVM cannot tell them apart in a last panel
    vectorize_last(sch, last)
    return part, panel, *reduction


OFFERS = {"panels": PANELS_OF_ONE_ROW, "row_block": OFFERED_ROWS}
TILES = {"tiles_per_padding": PARTS, "columns": COLUMNS}
RULE = Rule("cpu-dot", dot, frozenset({"dot4", "dot7", "dot8"}), offers={**OFFERS, **TILES})
