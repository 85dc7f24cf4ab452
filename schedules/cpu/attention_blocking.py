"""The choices of attention on a CPU that change the loop nest itself: how its tasks go through rows
and positions. With the defaults, the operator's nest stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.s_tir import SBlock, Schedule
from tvm.tirx.script.builder import ir as T

from ..choices import Choices
from ..isa.register_tiles import LANES
from ..isa.score_products import OF_CODES, ScoreProducts
from ..loops import int64
from ..replace_nest import in_scope, renamed, replace_nests, root_of
from ..rule import find
from ..tiling import is_one, settled
from .attention_nest import attention_nest
from .attention_shape import (
    BOTH,
    KEYS,
    NEITHER,
    TILES,
    TILING,
    VALUES,
    Blocking,
    Coded,
    Operands,
    Shape,
    Tiling,
    default_blocking,
    tiles_of_task,
)

TILE_ROWS = (4, 6, 8, 12, 16, 24)
"""Offered rows of a tile, besides the operator's and a tile of all rows of one query."""
MOST_ROWS = 24
SCORE_ROWS = (2, 3, 4, 6, 8, 12)
"""Offered rows of a register tile of integer scores, rounded down to a divisor of the tile."""
OFFERS: Mapping[str, tuple[int, ...]] = {
    "tile": tuple(range(1, MOST_ROWS + 1)),
    "tiles": (1, 2, 4, 8, 16),
    "chunk": (2, 4, 8, 16, 32),
    "staged": (NEITHER, KEYS, VALUES, BOTH),
    "parts": (1, 2, 4, 8, 16),
    "passes": (1, 2),
}
"""The choices, with all values that a function may be offered.

No option depends on another choice, so that every combination is valid: a task takes at most
`tiles` tiles, and never more than there are.
"""


@dataclass(frozen=True)
class Rows:
    """Rows of a tile: those that are offered, the default, and the chosen ones."""

    offered: list[int]
    default: int
    chosen: int

    def register_tiles(self, most: int) -> list[int]:
        """Rows that register tiles of some offered tile may have, up to `most`."""
        return sorted({n for tile in self.offered for n in divisors_of(tile, most)})

    def within(self, most: int) -> int:
        """The largest register tile of at most `most` rows that divides the chosen tile."""
        return divisors_of(self.chosen, most)[-1]


def divisors_of(extent: int, most: int) -> list[int]:
    return [n for n in range(1, most + 1) if extent % n == 0]


def choose_blocking(
    sch: Schedule, choices: Choices, products: ScoreProducts | None = None
) -> tuple[Rows, Blocking]:
    """Replace the nest if it should go through rows and positions in another way.

    What computes the queries must be inlined into the block "query_rows". `products`: what the
    target multiplies integer queries and keys with.
    """
    (block,) = find(sch, "attention")
    found = _shape(sch, block)
    tiling, before = found.tiling, found.blocking
    heights = list(TILE_ROWS) if before.products else _heights(tiling)

    def pick(name: str, options: Sequence[int], default: int) -> int:
        one = len(options) == 1
        return default if one else settled(sch, choices.pick(sch, name, options, default))

    tile = pick("tile", heights, tiling.tile)
    after = replace(tiling, tile=tile)
    blocking = Blocking(
        tiles=tiles_of_task(after, pick("tiles", _tiles(tiling, heights[0]), TILES)),
        chunk=pick("chunk", OFFERS["chunk"], before.chunk),
        staged=pick("staged", _staged(found.operands), before.staged),
        parts=pick("parts", _parts(found), before.parts),
        passes=pick("passes", OFFERS["passes"], before.passes),
    )
    if before.products:
        assert products is not None, "no instruction for integer scores"
        blocking = _integer(blocking, after, products, pick)
    if (after.tile, blocking) != (tiling.tile, before):
        _replace(sch, block, Shape(after, blocking, found.operands))
    return Rows(heights, tiling.tile, tile), blocking


def _integer(
    blocking: Blocking, tiling: Tiling, products: ScoreProducts, pick: Callable[..., int]
) -> Blocking:
    """The blocking with register tiles for scores by `products`."""
    most = pick("scores.rows", SCORE_ROWS, products.rows)
    unroll = pick("scores.unroll", products.unrolls, products.unroll)
    rows = divisors_of(tiling.tile, most)[-1]
    return replace(blocking, products=products, score_rows=rows, score_unroll=unroll)


def _shape(sch: Schedule, block) -> Shape:
    """The shape of the operator's nest."""
    task, notes = sch.get(sch.get_sblock("task")), sch.get(block).annotations
    rows, keys, values, *scales = (region.source for region in task.reads)
    (out,) = (region.source for region in task.writes)
    tile, first, step, *codes = notes[TILING]
    products = OF_CODES[str(codes[0])] if codes else None
    coded = Coded(*scales[-2:]) if codes else None
    scales = scales[:-2] if codes else scales
    h_kv, d = int(values.shape[0]), int(values.shape[2])
    group = int(out.shape[1]) // (h_kv * d)
    limit = lambda i: in_scope(sch, first) + in_scope(sch, step) * i  # noqa: E731
    tiling = Tiling(int64(out.shape[0]), group, int(tile), limit)
    blocking = default_blocking(tiling, values.dtype, products)
    return Shape(tiling, blocking, Operands(rows, keys, values, tuple(scales), out, coded))


# --- what a function is offered ---


def _heights(tiling: Tiling) -> list[int]:
    """Rows of a tile: the operator's, and others that a static number of rows fills."""
    rows = tiling.queries * tiling.group
    if not isinstance(rows, tirx.IntImm):
        return sorted({*TILE_ROWS, tiling.tile})
    whole = {int(rows)} if int(rows) <= MOST_ROWS else set()
    return sorted({n for n in TILE_ROWS if n < int(rows)} | whole | {tiling.tile})


def _tiles(tiling: Tiling, tile: int) -> list[int]:
    """Tiles per task, up to the first number that includes all tiles of `tile` rows."""
    count = replace(tiling, tile=tile).tiles
    if not isinstance(count, tirx.IntImm):
        return list(OFFERS["tiles"])
    return [n for n in OFFERS["tiles"] if n == 1 or n // 2 < int(count)]


def _staged(operands: Operands) -> list[int]:
    """float32 needs no conversion, and its chunks are contiguous already."""
    return [NEITHER] if operands.values.dtype == "float32" else list(OFFERS["staged"])


def _parts(shape: Shape) -> list[int]:
    """Parts of the positions of one query, of at least a panel each."""
    places = shape.operands.values.shape[1]
    if not is_one(shape.tiling.queries) or not isinstance(places, tirx.IntImm):
        return [1]
    return [n for n in OFFERS["parts"] if n * LANES <= int(places)]


# --- the replacement ---


def _replace(sch: Schedule, block, shape: Shape) -> None:
    """Put a nest of this shape, with rows padded to its tiles, in place of that of the block."""
    gone = [sch.get(found) for found in find(sch, "query_rows")]  # none if rows are integers
    nest = sch.get(block)
    rows, *inputs = shape.operands.inputs
    read = [region.source for packed in gone for region in packed.reads] or [rows]
    sources = [*read, *inputs, shape.operands.out]

    def emit() -> None:
        packed = _pack(shape, gone[0]) if gone else rows
        with T.sblock("attention"):
            T.sblock_attr(dict(nest.annotations))
            attention_nest(replace(shape, operands=replace(shape.operands, rows=packed)))

    unused = [packed.writes[0].source for packed in gone]
    replace_nests(sch, [*gone, nest], unused, root_of(sources, emit))


def _pack(shape: Shape, packed: SBlock) -> tirx.Buffer:
    """The block "query_rows" for another number of rows; returns its buffer."""
    tiling, store = shape.tiling, packed.body
    heads, _, columns = (axis.dom.extent for axis in packed.iter_vars)
    size = (heads, tiling.tiles * tiling.tile, columns)
    rows = T.sblock_alloc_buffer(size, "float32")
    with T.grid(*size) as loops, T.sblock("query_rows"):
        T.sblock_attr(dict(packed.annotations))
        new = [T.axis.spatial(n, v, str(v.ty.dtype)) for n, v in zip(size, loops, strict=True)]
        old = [axis.var for axis in packed.iter_vars]
        T.buffer_store(rows, renamed(store.value, old, new), new)
    return rows
