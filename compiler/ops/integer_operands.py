"""Queries and keys as integers, for attention whose scores are products of integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from handglass.schedules.cpu.attention_shape import Tiling, whole
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.isa.score_products import ScoreCodes
from handglass.schedules.loops import f32, grid, int64, parts_of, spatial

from .lazy import Read
from .quantize_rows import inverse, magnitude, rounded

FINITE = 0x7F7FFFFF
"""Bits of the largest finite float32."""


def mean_nest(key: Read, inputs: Sequence[tirx.Buffer], out: tirx.Buffer, count: Expr) -> None:
    """The mean of key(j, h, e) over all `count` positions, as `out` (h_kv, d) float32.

    Numbers that are not finite count as zero: they spoil the scores of their own position.
    """
    h_kv, d = (int(extent) for extent in out.shape)
    share = f32(1) / count.astype("float32")
    with grid(h_kv) as (number,), T.sblock("mean_task"):
        head = spatial(h_kv, number)
        T.reads(*map(whole, inputs))
        T.writes(whole(out))

        def put(value: Callable[[Expr], Expr]) -> None:
            for_vectors(d, lambda e: T.buffer_store(out, value(e), [head, e]))

        put(lambda e: f32(0))
        with T.serial(int64(0), count) as j:
            put(lambda e: out[head, e] + _finite(key(j, head, e)))
        put(lambda e: out[head, e] * share)


def _finite(value: Expr) -> Expr:
    return tirx.Select(magnitude(value) <= tirx.const(FINITE, "int32"), value, f32(0))


def for_vectors(d: int, body: Callable[[Expr], object], first: int = 0) -> None:
    """body(e) for the columns from `first` to d, in vectors of up to 16."""
    width = gcd(d, first, LANES)
    blocks = T.serial(int64(first // width), int64(d // width))
    with blocks as block, T.vectorized(int64(0), int64(width)) as lane:
        body(block * width + lane)


@dataclass(frozen=True)
class _Rows:
    """Emits the codes of one row of d numbers after the other."""

    d: int
    codes: ScoreCodes

    def code(
        self,
        value: Callable[[Expr], Expr],
        out: tirx.Buffer,
        place: Callable[[Expr], list[Expr]],
        depth: int,
    ) -> Expr:
        """Store the codes of value(e) at place(e), then zeros up to `depth` columns.

        Returns the scale.
        """
        limit = f32(self.codes.limit(self.d))
        peak = self._peak(value)

        def put(e: Expr) -> None:
            code = rounded(value(e) * inverse(peak, limit), limit)
            T.buffer_store(out, code.astype(self.codes.dtype), place(e))

        for_vectors(self.d, put)
        if depth > self.d:
            zero = tirx.const(0, self.codes.dtype)
            for_vectors(depth, lambda e: T.buffer_store(out, zero, place(e)), self.d)
        return peak / limit

    def _peak(self, value: Callable[[Expr], Expr]) -> Expr:
        """The largest magnitude; NaN if there is one."""
        width = gcd(self.d, LANES)
        lanes, peak = (T.sblock_alloc_buffer((n,), "int32") for n in (width, 1))
        for_vectors(width, lambda e: T.buffer_store(lanes, tirx.const(0, "int32"), [e]))

        with grid(self.d // width) as (block,), T.vectorized(int64(0), int64(width)) as lane:
            larger = tirx.max(lanes[lane], magnitude(value(block * width + lane)))
            T.buffer_store(lanes, larger, [lane])
        T.buffer_store(peak, _highest(lanes, width), [int64(0)])
        return tirx.reinterpret("float32", peak[0])


def _highest(lanes: tirx.Buffer, width: int) -> Expr:
    if width == 1:
        return lanes[0]
    vector = lanes.vload([int64(0)], f"int32x{width}")
    return tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.smax", vector)


@dataclass(frozen=True)
class QueryCodes:
    """Emits rows (query, head of the group); query(i, h, e) is float32."""

    query: Read
    inputs: Sequence[tirx.Buffer]
    out: tirx.Buffer  # (h_kv, rows, depth)
    scales: tirx.Buffer  # (h_kv, rows)
    tiling: Tiling
    d: int
    codes: ScoreCodes
    factor: float
    """Of the scores."""

    def nest(self, together: int) -> None:
        """A task has `together` rows, which divide all rows. The last query fills the last ones."""
        heads, tasks = int(self.out.shape[0]), int64(self.out.shape[1]) // together
        with grid(tasks * heads) as (number,), T.sblock("query_task"):
            number = spatial(tasks * heads, number)
            T.reads(*map(whole, self.inputs))
            T.writes(whole(self.out), whole(self.scales))
            head, task = parts_of(number, tasks)
            with grid(together) as (r,):
                self._row(head, task * together + r)

    def _row(self, head: Expr, row: Expr) -> None:
        group, last = self.tiling.group, self.tiling.queries - 1
        i, h = tirx.min(row // group, last), head * group + row % group
        depth = self.codes.depth(self.d)
        place = lambda e: [head, row, e]  # noqa: E731
        scale = _Rows(self.d, self.codes).code(
            lambda e: self.query(i, h, e), self.out, place, depth
        )
        T.buffer_store(self.scales, scale * f32(self.factor), [head, row])


@dataclass(frozen=True)
class KeyCodes:
    """Emits panels of 16 positions; key(j, h, e) is float32."""

    key: Read
    inputs: Sequence[tirx.Buffer]
    out: tirx.Buffer  # (h_kv, panels, steps, 16, step)
    scales: tirx.Buffer  # (h_kv, panels, 16)
    count: Expr  # of positions
    d: int
    codes: ScoreCodes

    def nest(self) -> None:
        """A task has a panel of a head. The last position fills the last panel."""
        heads, panels = int(self.out.shape[0]), int64(self.out.shape[1])
        depth = self.codes.steps(self.d) * self.codes.step
        with grid(panels * heads) as (number,), T.sblock("key_task"):
            number = spatial(panels * heads, number)
            T.reads(*map(whole, self.inputs))
            T.writes(whole(self.out), whole(self.scales))
            kept = T.sblock_alloc_buffer((LANES, depth), self.codes.dtype)
            head, panel = parts_of(number, panels)
            with grid(LANES) as (lane,):
                j = tirx.min(panel * LANES + lane, self.count - 1)
                value = lambda e: self.key(j, head, e)  # noqa: E731
                scale = _Rows(self.d, self.codes).code(value, kept, lambda e: [lane, e], depth)
                T.buffer_store(self.scales, scale, [head, panel, lane])
            self._turn(kept, head, panel)

    def _turn(self, kept: tirx.Buffer, head: Expr, panel: Expr) -> None:
        """Put the four bytes of a step of all positions side by side."""
        step = self.codes.step
        with grid(self.codes.steps(self.d), LANES) as (s, lane):
            word = kept.vload([lane, s * step], f"{self.codes.dtype}x{step}")
            place = [head, panel, s, lane, T.ramp(int64(0), 1, step)]
            T.buffer_store(self.out, word, place)
