"""The products of attention in tile registers (AMX)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.amx_instructions import BFLOAT16, TILE, load, multiply, store, stream, zero
from ..loops import int64
from .bf16_attention_nest import PANELS, Block

SUMS = {1: 5, 2: 2}
"""Columns of sums in registers, by row tiles; operands take what is left of the eight tiles."""


class TileBlock(Block):
    """Emits the work on one block of rows for a CPU with tile registers."""

    def score(self, first: Expr, span: Expr) -> None:
        """The scores of 32 rows and positions: four tiles, over all columns."""
        rows, keys = self.shape.operands.rows, self.shape.operands.keys
        for tile in range(4):
            T.evaluate(zero(tile))
        for s in range(self.shape.steps):
            for r in range(2):
                T.evaluate(load(4 + r, T.address_of(rows[self.head, self.block * 2 + r, s, 0, 0])))
            for p in range(PANELS):
                place = keys[self.head, first + span, p, s, 0, 0]
                T.evaluate(self._fetch(6 + p, T.address_of(place)))
                for r in range(2):
                    T.evaluate(multiply(BFLOAT16, p * 2 + r, 4 + r, 6 + p))
        for p in range(PANELS):
            for r in range(2):
                place = self.kept.score[span * PANELS + p, r * TILE, 0]
                T.evaluate(store(p * 2 + r, T.address_of(place)))

    def mix(self, first: Expr, seen: Expr) -> None:
        fused = self.shape.blocking.fused
        if not fused:
            with T.serial(int64(0), seen) as span:
                self.weigh(span, 0, 2)
        for tiles, columns in self._groups():
            self._each_sum(load, tiles, columns)
            with T.serial(int64(0), seen) as span:
                if fused and columns.start == 0:
                    self.weigh(span, tiles.start, len(tiles))
                self._product(first, span, tiles, columns)
            self._each_sum(store, tiles, columns)

    def _groups(self) -> Iterator[tuple[range, range]]:
        """Row tiles and columns whose sums are in registers together."""
        tiles, columns = self.shape.blocking.row_tiles, self.shape.columns
        width = SUMS[tiles]
        for r in range(0, 2, tiles):
            for c in range(0, columns, width):
                yield range(r, r + tiles), range(c, min(c + width, columns))

    def _each_sum(self, move: Callable[[int, Expr], Expr], tiles: range, columns: range) -> None:
        """Load or store the sums of a group."""
        for c in range(len(columns)):
            for r in range(len(tiles)):
                row = (tiles.start + r) * TILE
                place = self.kept.mixed[self.place, columns.start + c, row, 0]
                T.evaluate(move(c * len(tiles) + r, T.address_of(place)))

    def _product(self, first: Expr, span: Expr, tiles: range, columns: range) -> None:
        """Add weights times values of a span to the sums of a group."""
        values, sums = self.shape.operands.values, SUMS[len(tiles)] * len(tiles)
        left = range(sums, sums + len(tiles))
        right = range(left.stop, 8)
        for r, tile in zip(tiles, left, strict=True):
            T.evaluate(load(tile, T.address_of(self.kept.weight[span, r * TILE, 0])))
        for c, column in enumerate(columns):
            tile = right[c % len(right)]
            place = values[self.head, first + span, column, 0, 0]
            T.evaluate(self._fetch(tile, T.address_of(place)))
            for r in range(len(tiles)):
                T.evaluate(multiply(BFLOAT16, c * len(tiles) + r, left[r], tile))

    def _fetch(self, tile: int, address: Expr) -> Expr:
        """Load keys or values."""
        return (stream if self.shape.blocking.streamed else load)(tile, address)
