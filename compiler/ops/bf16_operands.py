"""Queries, keys and values as bfloat16 tiles, for attention in tile registers.

A tile of rows has 16 rows of 32 columns; a tile of keys has 16 pairs of columns of 16 positions,
and a tile of values 16 pairs of positions, i and i + 16 of a span of 32, of 16 columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from handglass.schedules.cpu.attention_shape import Tiling, whole
from handglass.schedules.cpu.bf16_attention_nest import put
from handglass.schedules.cpu.bf16_attention_shape import SPAN, columns_of, steps_of
from handglass.schedules.isa.amx_instructions import TILE, word_of_floats
from handglass.schedules.loops import grid, int64, parts_of, spatial

from .bfloat16 import bfloat16_bits
from .lazy import Read
from .transposed import transpose

ONE = 0x3F80
NOT_A_NUMBER = 0x7FC07FC0
LARGEST, MAGNITUDE = 0x7F7F7FFF, 0x7FFFFFFF
"""Bits of the largest float32 that is finite as bfloat16, and of all but the sign."""


def query_nest(
    query: Read,
    inputs: Sequence[tirx.Buffer],
    out: tirx.Buffer,
    tiling: Tiling,
    d: int,
    factor: float,
) -> None:
    """Rows (query, head of the group) times `factor`; query(i, h, e) is float32.

    `out` is (h_kv, tiles of 16 rows, steps, 16, 32) uint16. The last query fills the last block.
    """
    heads, tiles = (int64(extent) for extent in out.shape[:2])
    last, group, times = tiling.queries - 1, tiling.group, tirx.const(factor, "float32")
    with grid(heads * tiles) as (number,), T.sblock("query_task"):
        number = spatial(heads * tiles, number)
        T.reads(*map(whole, inputs))
        T.writes(whole(out))
        head, tile = parts_of(number, tiles)
        with grid(TILE) as (r,):
            row = tile * TILE + r
            i, h = tirx.min(row // group, last), head * group + row % group
            place = lambda e: [head, tile, e // SPAN, r, e % SPAN]  # noqa: E731 (of this row)
            _round_row(out, d, lambda e: query(i, h, e) * times, place)


def _round_row(
    out: tirx.Buffer,
    d: int,
    value: Callable[[Expr], Expr],
    place: Callable[[Expr], list[Expr]],
) -> None:
    """Store d float32 values as bfloat16, then zeros up to a whole step, in vectors.

    place(e) is where column e belongs, for the first column of a vector.
    """
    width = gcd(d, TILE)

    def put_vector(start: Expr, value: Callable[[Expr], Expr]) -> None:
        *outer, first = place(start)
        with T.vectorized(int64(0), int64(width)) as lane:
            T.buffer_store(out, value(lane), [*outer, first + lane])

    with grid(d // width) as (block,):
        put_vector(block * width, lambda lane: bfloat16_bits(value(block * width + lane)))
    with T.serial(int64(d // width), int64(steps_of(d) * SPAN // width)) as block:
        put_vector(block * width, lambda lane: tirx.const(0, "uint16"))


@dataclass(frozen=True)
class Positions:
    """Emits the tiles of keys and values of all positions that some row sees."""

    key: Callable[[Expr, Expr, Expr, Expr], Expr]
    """float32 at (head, panel, position in the panel, column), for panels with positions."""
    by_rows: bool
    """Whether adjacent columns of a key are adjacent in memory, not adjacent positions."""
    value: Read
    """float32 at (head, position, column), for `count` positions."""
    inputs: Sequence[tirx.Buffer]
    """The buffers that they read."""
    count: Expr
    d: int
    keys: tirx.Buffer  # (h_kv, spans, 2, steps, 16, 16) uint32
    values: tirx.Buffer  # (h_kv, spans, columns, 16, 16) uint32
    hides: bool
    """Whether some rows do not see all positions.

    The weight of an invisible position is 0, but its product with an infinity or NaN would not be.
    Such values are then replaced by 0, and the key of their position by NaN, which spoils all rows
    that see it and no other.
    """

    def nest(self) -> None:
        """Emit the nest: a task per head and span."""
        heads, spans = (int64(extent) for extent in self.keys.shape[:2])
        with grid(heads * spans) as (number,), T.sblock("position_task"):
            number = spatial(heads * spans, number)
            T.reads(*map(whole, self.inputs))
            T.writes(whole(self.keys), whole(self.values))
            worst = T.sblock_alloc_buffer((SPAN, self.width), "uint32")
            head, span = parts_of(number, spans)
            self._values(head, span, worst)
            self._keys(head, span)
            if self.hides:
                self._spoil(head, span, worst)

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return gcd(self.d, TILE)

    def _values(self, head: Expr, span: Expr, worst: tirx.Buffer) -> None:
        last, d = columns_of(self.d) - 1, self.d
        if self.hides:
            with grid(SPAN) as (j,), T.vectorized(int64(0), int64(self.width)) as lane:
                T.buffer_store(worst, tirx.const(0, "uint32"), [j, lane])
        with grid(TILE) as (i,):
            with T.vectorized(int64(0), int64(TILE)) as lane:
                ones = tirx.const(ONE << 16 | ONE, "uint32")
                word = tirx.Select(lane == d % TILE, ones, tirx.const(0, "uint32"))
                T.buffer_store(self.values, word, [head, span, int64(last), i, lane])
            vectors = grid(d // self.width)
            with vectors as (block,), T.vectorized(int64(0), int64(self.width)) as lane:
                self._pair(head, span, i, block * self.width, lane, worst)

    def _pair(
        self, head: Expr, span: Expr, i: Expr, start: Expr, lane: Expr, worst: tirx.Buffer
    ) -> None:
        """Values of positions i and i + 16 in the columns from `start`."""
        pair = []
        for row in (i, i + TILE):
            at = span * SPAN + row
            value = self.value(head, tirx.min(at, self.count - 1), start + lane)
            value = tirx.Select(at < self.count, value, tirx.const(0, "float32"))
            if self.hides:
                size = tirx.reinterpret("uint32", value) & tirx.const(MAGNITUDE, "uint32")
                T.buffer_store(worst, tirx.max(worst[row, lane], size), [row, lane])
                finite = size <= tirx.const(LARGEST, "uint32")
                value = tirx.Select(finite, value, tirx.const(0, "float32"))
            pair.append(value)
        place = [head, span, start // TILE, i, start % TILE + lane]
        T.buffer_store(self.values, word_of_floats(*pair), place)

    def _keys(self, head: Expr, span: Expr) -> None:
        """Keys of a cache, whose heads have an even number of columns, are panels already."""
        pairs, all_pairs = self.d // 2, steps_of(self.d) * TILE
        with grid(2) as (p,):
            panel = tirx.min(span * 2 + p, (self.count - 1) // TILE)
            if self.by_rows:
                self._turned(head, span, p, panel)
                return
            with grid(pairs) as (q,), T.vectorized(int64(0), int64(TILE)) as lane:
                pair = (self.key(head, panel, lane, q * 2 + e) for e in (0, 1))
                low, high = (bfloat16_bits(value).astype("uint32") for value in pair)
                word = low | (high << tirx.const(16, "uint32"))
                T.buffer_store(self.keys, word, [head, span, p, q // TILE, q % TILE, lane])
            rest = T.serial(int64(pairs), int64(all_pairs))
            with rest as q, T.vectorized(int64(0), int64(TILE)) as lane:
                place = [head, span, p, q // TILE, q % TILE, lane]
                T.buffer_store(self.keys, tirx.const(0, "uint32"), place)

    def _turned(self, head: Expr, span: Expr, p: Expr, panel: Expr) -> None:
        """Keys whose columns are adjacent: round rows, then transpose their pairs of columns."""
        rounded = T.sblock_alloc_buffer((TILE, steps_of(self.d) * SPAN), "uint16")
        with grid(TILE) as (j,):
            _round_row(rounded, self.d, lambda e: self.key(head, panel, j, e), lambda e: [j, e])
        with grid(steps_of(self.d)) as (s,):
            rows = [rounded.vload([int64(j), s * SPAN], "uint16x32") for j in range(TILE)]
            words = [tirx.reinterpret("uint32x16", row) for row in rows]
            place = lambda q: [head, span, p, s, int64(q)]  # noqa: E731 (used once)
            transpose(words, lambda q, word: put(self.keys, word, *place(q)))

    def _spoil(self, head: Expr, span: Expr, worst: tirx.Buffer) -> None:
        """Turn the first columns of keys into NaN where a value is not finite."""
        with grid(2, TILE, self.width) as (p, lane, e):
            bad = worst[p * TILE + lane, e] > tirx.const(LARGEST, "uint32")
            with T.If(bad), T.Then():
                place = [head, span, p, int64(0), int64(0), lane]
                T.buffer_store(self.keys, tirx.const(NOT_A_NUMBER, "uint32"), place)
