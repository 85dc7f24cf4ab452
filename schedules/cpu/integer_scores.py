"""Scores of attention as integer dot products, in vectors (isa/score_products.py).

A register tile is some rows of the tile times the 16 positions of a panel. Its sums become floats
with one scale per row and one per position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..isa.score_products import ScoreProducts
from ..loops import grid, int64
from .attention_shape import Shape


def integer_scores(
    shape: Shape, score: tirx.Buffer, head: Expr, panel: Expr, row: Expr, count: Expr
) -> None:
    """Emit the scores of the tile from `row` on, for `count` panels from `panel` on.

    `score` is (panels, tile, 16).
    """
    height = shape.blocking.score_rows
    with grid(count, shape.tile // height) as (b, part):
        tile = _RegisterTile.new(shape, head, panel + b, row + part * height)
        tile.multiply()
        for r, first, scaled in tile.scores():
            place = [b, part * height + r, T.ramp(int64(first), 1, tile.lanes)]
            T.buffer_store(score, scaled, place)


@dataclass(frozen=True)
class _RegisterTile:
    """Sums of some rows times the positions of a panel."""

    shape: Shape
    head: Expr
    panel: Expr
    row: Expr
    use: ScoreProducts
    sums: tirx.Buffer  # (rows, vectors) of `lanes` int32

    @classmethod
    def new(cls, shape: Shape, head: Expr, panel: Expr, row: Expr) -> _RegisterTile:
        use = shape.blocking.products
        assert use is not None
        size = (shape.blocking.score_rows, LANES // use.lanes)
        sums = T.sblock_alloc_buffer(size, f"int32x{use.lanes}", scope="local")
        return cls(shape, head, panel, row, use, sums)

    @property
    def lanes(self) -> int:
        return self.use.lanes

    def multiply(self) -> None:
        """Set the sums to the products of all columns."""
        zero = tirx.Broadcast(tirx.const(0, "int32"), self.lanes)
        for r, v in self._places():
            T.buffer_store(self.sums, zero, [r, v])
        unroll = self.shape.blocking.score_unroll
        whole, rest = divmod(self.use.codes.steps(self.shape.d), unroll)
        with grid(whole) as (turn,):
            for step in range(unroll):
                self._add(turn * unroll, step)
        for step in range(rest):
            self._add(int64(whole * unroll), step)

    def scores(self) -> Iterator[tuple[int, int, Expr]]:
        """A row of the tile, the first position of a vector, and its scores."""
        coded, dtype = self.shape.operands.coded, f"float32x{self.lanes}"
        assert coded is not None
        for r, v in self._places():
            first = v * self.lanes
            of_keys = coded.key_scales.vload([self.head, self.panel, int64(first)], dtype)
            of_row = tirx.Broadcast(coded.row_scales[self.head, self.row + r], self.lanes)
            yield r, first, tirx.Cast(dtype, self.sums[r, v]) * (of_keys * of_row)

    def _places(self) -> list[tuple[int, int]]:
        rows, vectors = map(int, self.sums.shape)
        return [(r, v) for r in range(rows) for v in range(vectors)]

    def _add(self, first: Expr, step: int) -> None:
        """Add the products of step `first + step`, where `first` begins an iteration."""
        codes, sums = self.use.codes, self.sums
        keys = [self._keys(first + step, v) for v in range(LANES // self.lanes)]
        for r, v in self._places():
            at = [self.head, self.row + r, first * codes.step]
            query = self.use.spread(self.shape.operands.rows, at, tirx.const(step, "int32"))
            T.buffer_store(sums, self.use.multiply(sums[r, v], keys[v], query), [r, v])

    def _keys(self, step: Expr, v: int) -> Expr:
        codes = self.use.codes
        place = [self.head, self.panel, step, int64(v * self.lanes), int64(0)]
        dtype = f"{codes.dtype}x{self.lanes * codes.step}"
        return self.shape.operands.keys.vload(place, dtype)
