"""Integer matmul with an instruction that takes two rows at a time: tiles of 2 x 2 squares.

A task owns a panel and iterates over the rows, as in dot.py. If every group has its own scale, sums
are scaled while still in squares. Squares are rearranged into rows once per tile.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import tvm
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..isa.integer_isa import Codes, IntegerIsa, find_integer_isa
from ..isa.nibble_intrinsics import unpack_pairs
from ..isa.register_tiles import LANES, Tile
from ..isa.smmla_intrinsics import intrinsic
from ..isa.smmla_squares import add_scaled, squares_to_rows
from ..rule import Rule, find
from ..tiling import clear, settled, tensorize
from .dot import COLUMNS, OFFERS, PREFETCH, register_tile, split_tile, unrolled
from .elementwise import vectorize
from .unpacking import unpack_operands


def pairs(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one integer matmul on row pairs."""
    return schedule_pairs(sch, find_integer_isa(target), choices)


def schedule_pairs(
    sch: Schedule, isa: IntegerIsa, choices: Choices = DEFAULTS, emulate: bool = False
) -> bool:
    """Like `pairs`, for a given instruction set; for `emulate` see dot_intrinsics.py."""
    found = {name: find(sch, name) for name in ("pair4", "pair8", "halves8")}
    patterns = [name for name, block in found.items() if len(block) == 1]
    if len(patterns) != 1:
        return False
    pattern, (sums,) = patterns[0], found[patterns[0]]
    codes = isa.codes(int(pattern[-1]))
    if pattern == "halves8":
        ahead = settled(sch, choices.pick(sch, "prefetch", PREFETCH, 0))
        _one_row(sch, sums, codes, intrinsic(isa, 8, 1, LANES, emulate, ahead), choices)
    else:
        columns = settled(sch, choices.pick(sch, "columns", COLUMNS, codes.tile.columns))
        tile = replace(codes.tile, columns=columns)
        name = intrinsic(isa, codes.bits, tile.rows, columns, emulate)
        if codes.bits == 4:
            _grouped(sch, sums, tile, name, codes, choices)
        else:
            _by_row(sch, sums, tile, name, choices)
    for padded in find(sch, "rows"):
        sch.parallel(sch.get_loops(padded)[0])
        vectorize(sch, sch.get_loops(padded)[-1])
    return True


def _one_row(sch: Schedule, sums, codes: Codes, name: str, choices: Choices) -> None:
    (scaled,) = find(sch, "scaled")
    tile = register_tile(sch, scaled, codes)
    split = split_tile(sch, scaled, tile, choices)
    sch.compute_at(sums, split.part, preserve_unit_loops=True)
    *_, p, i, q, c, v, e = sch.get_loops(sums)
    c, *steps = unrolled(sch, c, choices)
    sch.reorder(c, *steps, p, i, q, v, e)
    sch.unroll(p)
    clear(sch, sums, c, 3)
    tensorize(sch, sums, q, name)
    split.finish(sch)


def _grouped(sch: Schedule, sums, tile: Tile, name: str, codes: Codes, choices: Choices) -> None:
    """Scale each group's squares, add them to the tile's, and rearrange into rows at the end."""
    (scaled,), (in_rows,), (product,) = (find(sch, n) for n in ("scaled", "in_rows", "product"))
    split = split_tile(sch, product, replace(tile, panels=1), choices)
    sch.compute_at(in_rows, split.part, preserve_unit_loops=True)
    sch.compute_at(scaled, split.part, preserve_unit_loops=True)
    *_, p, t, i, b, q, g = sch.get_loops(scaled)
    g, *groups = unrolled(sch, g, choices)
    sch.reorder(g, *groups, p, t, i, b, q)
    sch.compute_at(sums, t, preserve_unit_loops=True)
    unpack = partial(unpack_pairs, codes)
    unpack_operands(sch, split.task, t, tile.columns, unpack, choices)
    clear(sch, scaled, g, 3)
    *_, first, _, _, _, _, _, _ = sch.get_loops(sums)
    clear(sch, sums, first, 3)
    tensorize(sch, sums, first, name)
    tensorize(sch, scaled, i, add_scaled(codes, tile.rows, tile.columns))
    _set_in_rows(sch, in_rows, tile, "float32")
    split.finish(sch)


def _by_row(sch: Schedule, sums, tile: Tile, name: str, choices: Choices) -> None:
    (scaled,), (in_rows,) = find(sch, "scaled"), find(sch, "in_rows")
    split = split_tile(sch, scaled, replace(tile, panels=1), choices)
    sch.compute_at(in_rows, split.part, preserve_unit_loops=True)
    sch.compute_at(sums, split.part, preserve_unit_loops=True)
    *_, p, t, i, b, q, c, v, e = sch.get_loops(sums)
    c, *steps = unrolled(sch, c, choices)
    sch.reorder(c, *steps, p, t, i, b, q, v, e)
    sch.unroll(p)
    clear(sch, sums, c, 3)
    tensorize(sch, sums, i, name)
    _set_in_rows(sch, in_rows, tile, "int32")
    split.finish(sch)


def _set_in_rows(sch: Schedule, block, tile: Tile, dtype: str) -> None:
    name = squares_to_rows(tile.rows, tile.columns, dtype)
    tensorize(sch, block, sch.get_loops(block)[-3], name)


RULE = Rule(
    "cpu-pairs",
    pairs,
    frozenset({"pair4", "pair8", "halves8"}),
    offers={**OFFERS, "columns": COLUMNS},
)
