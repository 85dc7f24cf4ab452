"""The products of attention in vectors that multiply pairs of bfloat16 (`isa/bf16_dot.py`).

Operands have the layout of tiles. A register tile is some rows times one or two vectors of 16
positions or columns; a word of a row is broadcast from memory for one vector, or once for two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.amx_instructions import TILE
from ..isa.bf16_dot import dot, with_dot
from ..loops import grid, int64
from .bf16_attention_nest import PANELS, Block, fill, get, put
from .bf16_attention_shape import ROWS, TileShape

WORDS = "uint32x16"


class DotBlock(Block):
    """Emits the work on one block of rows for a CPU with dot products of bfloat16."""

    @staticmethod
    def scope(shape: TileShape) -> AbstractContextManager[None]:
        assert shape.blocking.dot is not None
        return with_dot(shape.blocking.dot.source)

    # --- scores ---

    def score(self, first: Expr, span: Expr) -> None:
        """The scores of 32 rows and positions, over the pairs of columns that a head has."""
        for panels in self._parts(PANELS):
            with self._register_tiles(len(panels)) as (row, sums):
                sums.set(lambda r, p: fill(0.0))
                self._add_scores(sums, row, first + span, panels)
                for r, p, total in sums.each():
                    put(self.kept.score, total, span * PANELS + panels[p], row + r)

    def _add_scores(self, sums: _Sums, row: Expr, span: Expr, panels: range) -> None:
        steps, rest = divmod(-(-self.shape.d // 2), TILE)
        with grid(steps, TILE // self._at_once) as (s, q):
            for pair in self._unrolled(q):
                self._add_pair(sums, row, span, panels, s, pair)
        with grid(rest) as (q,):
            self._add_pair(sums, row, span, panels, int64(steps), q)

    def _add_pair(
        self, sums: _Sums, row: Expr, span: Expr, panels: range, s: Expr, q: Expr
    ) -> None:
        """Add the products of pair q of step s."""
        rows, keys = self.shape.operands.rows, self.shape.operands.keys
        tile, start = self.block * 2 + row // TILE, row % TILE
        place = lambda p: [self.head, span, int64(p), s, q, int64(0)]  # noqa: E731
        pair = lambda r: rows.vload([self.head, tile, s, start + r, q * 2], "uint16x2")  # noqa: E731
        vectors = [keys.vload(place(p), WORDS) for p in panels]
        sums.add(vectors, lambda r: tirx.reinterpret("uint32", pair(r)))

    # --- weights times values ---

    def mix(self, first: Expr, seen: Expr) -> None:
        with T.serial(int64(0), seen) as span:
            self.weigh(span, 0, 2)
        for columns in self._parts(self.shape.columns):
            self._mix_columns(first, seen, columns)

    def _mix_columns(self, first: Expr, seen: Expr, columns: range) -> None:
        """Add weights times values to the sums of one or two vectors of columns."""
        mixed = self.kept.mixed
        with self._register_tiles(len(columns)) as (row, sums):
            sums.set(lambda r, c: get(mixed, self.place, columns[c], row + r))
            with T.serial(int64(0), seen) as span, grid(TILE // self._at_once) as (k,):
                for pair in self._unrolled(k):
                    self._add_values(sums, row, first, span, pair, columns)
            for r, c, total in sums.each():
                put(mixed, total, self.place, columns[c], row + r)

    def _add_values(
        self, sums: _Sums, row: Expr, first: Expr, span: Expr, pair: Expr, columns: range
    ) -> None:
        """Add the products of a pair of positions of a span."""
        values, weight = self.shape.operands.values, self.kept.weight
        place = lambda c: [self.head, first + span, int64(c), pair, int64(0)]  # noqa: E731
        vectors = [values.vload(place(c), WORDS) for c in columns]
        sums.add(vectors, lambda r: weight[span, row + r, pair])

    # --- register tiles ---

    def _parts(self, vectors: int) -> Iterator[range]:
        """The vectors of positions or columns, by register tile."""
        width = self.shape.blocking.dot_vectors
        for first in range(0, vectors, width):
            yield range(first, min(first + width, vectors))

    @contextmanager
    def _register_tiles(self, vectors: int) -> Iterator[tuple[Expr, _Sums]]:
        """The loop over the register tiles of the block: their first row, and their sums."""
        rows = self.shape.blocking.dot_sums // vectors
        with grid(ROWS // rows) as (part,):
            kept = T.sblock_alloc_buffer((rows, vectors), "float32x16", scope="local")
            yield part * rows, _Sums(kept)

    @property
    def _at_once(self) -> int:
        return self.shape.blocking.dot_pairs

    def _unrolled(self, iteration: Expr) -> Iterator[Expr]:
        """The pairs of an iteration."""
        for n in range(self._at_once):
            yield iteration * self._at_once + n


@dataclass(frozen=True)
class _Sums:
    """Sums of some rows times some vectors."""

    kept: tirx.Buffer  # (rows, vectors) float32x16

    def set(self, value: Callable[[int, int], Expr]) -> None:
        for r, v, _ in self.each():
            T.buffer_store(self.kept, value(r, v), [r, v])

    def add(self, vectors: Sequence[Expr], word: Callable[[int], Expr]) -> None:
        """Add the products of the vectors with a word of each row."""
        for r, v, total in self.each():
            T.buffer_store(self.kept, dot(total, vectors[v], tirx.Broadcast(word(r), TILE)), [r, v])

    def each(self) -> Iterator[tuple[int, int, Expr]]:
        rows, vectors = map(int, self.kept.shape)
        for r in range(rows):
            for v in range(vectors):
                yield r, v, self.kept[r, v]
