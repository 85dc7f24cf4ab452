"""The hand-written loop nest of attention on a CPU: tiles of query rows iterate over chunks of
positions.

A task owns a kv head and a few tiles of rows. For each chunk and tile it computes scores, the new
maximum, the weights and their product with the values. It rescales the previous sum to the new
maximum and accumulates the product (online softmax, Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867). No buffer grows with the sequence length, and panels that no row
of the tile may attend to are not read. The schedule decides how the loops of the blocks "scores",
"mix" and "edge" run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, SEEN

from .exponential import exp2
from .index_type import int64

CHUNK = 8
"""Panels of 16 positions per chunk."""
TILES = 4
"""Tiles of rows per task: they share each chunk of keys and values while it is in the cache."""
LOWEST = -3.0e38

Limit = Callable[[Expr], Expr]
"""Query i attends to the positions below limit(i), which is at least 1 and non-decreasing."""


@dataclass(frozen=True)
class Tiling:
    """Rows are pairs (query, head of the group); each tile has `tile` rows of one kv head."""

    queries: Expr
    group: int
    tile: int
    limit: Limit

    @property
    def tiles(self) -> Expr:
        return (self.queries * self.group + (self.tile - 1)) // self.tile

    @property
    def tiles_per_task(self) -> int:
        return min(TILES, int(self.tiles)) if isinstance(self.tiles, tirx.IntImm) else TILES

    def row_limit(self, row: Expr) -> Expr:
        """Number of positions visible to a row; padding rows have the limit of the last query."""
        return int64(self.limit(tirx.min(row // self.group, self.queries - 1)))


def attend(
    rows: te.Tensor,
    keys: te.Tensor,
    values: te.Tensor,
    scales: tuple[te.Tensor, ...],
    tiling: Tiling,
) -> te.Tensor:
    """rows (h_kv, tiles * tile, d) -> (queries, h_kv * group * d) float32.

    `scales` are those of int8 keys and values, (h_kv, panels, 16) each; empty for floats.
    """
    h_kv, _, d = rows.shape
    s, heads = tiling.queries, h_kv * tiling.group
    last = tiling.limit(s - 1)
    # Scores and mixing. The average limit is half the sum of the first and the last.
    work = [heads * d, s, tiling.limit(int64(0)) + last]
    return te.extern(
        (tiling.queries, h_kv * tiling.group * d),
        [rows, keys, values, *scales],
        lambda ins, outs: _Nest(tiling, ins, outs[0]).statement(),
        name="attention",
        dtype="float32",
        attrs={PATTERN: "attention", MULTIPLY_ADDS: work, SEEN: [last, values.shape[1]]},
    )


class _Nest:
    """Emits the statement: one method per step; attributes are the buffers of the task."""

    def __init__(self, tiling: Tiling, ins: list[tirx.Buffer], out: tirx.Buffer) -> None:
        self.tiling, self.out = tiling, out
        self.rows, self.keys, self.values, *self.scales = ins
        self.kv_heads, self.d = int(self.rows.shape[0]), int(self.rows.shape[2])
        self.tile, self.per_task = tiling.tile, tiling.tiles_per_task
        self.staged = self.per_task > 1 and self.keys.dtype != "float32"

    def statement(self) -> tirx.Stmt:
        blocks = _ceil(self.tiling.tiles, self.per_task)
        with IRBuilder() as ib, _grid(blocks * self.kv_heads) as (task,), T.sblock("task"):
            self.task = _spatial(blocks * self.kv_heads, task)
            self.head, self.first = self.task // blocks, self.task % blocks * self.per_task
            self._buffers()
            self._start()
            with T.serial(int64(0), self._chunks()) as chunk:
                self._chunk(chunk)
            self._finish()
        return ib.get()

    def _buffers(self) -> None:
        height = self.per_task * self.tile
        f32 = T.sblock_alloc_buffer
        self.score = f32((CHUNK, self.tile, LANES), "float32")
        self.mixed, self.seam = (
            f32((self.tile, self.d), "float32"),
            f32((self.tile, self.d), "float32"),
        )
        self.sum, self.total = f32((height, self.d), "float32"), f32((height, LANES), "float32")
        self.peak, self.decay = f32((height,), "float32"), f32((self.tile,), "float32")
        self.lanes = f32((LANES,), "float32")
        if self.staged:
            self.key32 = f32((CHUNK, self.d, LANES), "float32")
            self.value32 = f32((CHUNK * LANES, self.d), "float32")

    def _chunks(self) -> Expr:
        """Number of chunks visible to some row of the task."""
        return _ceil(self._end((self.first + self.per_task) * self.tile), CHUNK * LANES)

    def _start(self) -> None:
        with T.serial(int64(0), int64(self.per_task * self.tile)) as r:
            T.buffer_store(self.peak, _f32(LOWEST), [r])
            with T.vectorized(int64(0), int64(LANES)) as lane:
                T.buffer_store(self.total, _f32(0), [r, lane])
            with self._columns() as e:
                T.buffer_store(self.sum, _f32(0), [r, e])

    def _chunk(self, chunk: Expr) -> None:
        self.block = chunk * CHUNK  # first panel of the chunk
        if self.staged:
            self._stage()
        tiles = tirx.min(int64(self.per_task), self.tiling.tiles - self.first)
        with T.serial(int64(0), tiles) as t, T.sblock("tile"):
            T.where(self.block * LANES < self._end((self.first + t + 1) * self.tile))
            slot, block = _spatial(self.per_task, t), T.axis.opaque(self._chunks(), chunk, "int64")
            self._tile(slot, block * CHUNK)

    def _tile(self, t: Expr, block: Expr) -> None:
        """One tile of rows against one chunk with at least one visible position."""
        self.block = block
        self.row = (self.first + t) * self.tile  # first row of the tile
        self.slot = t * self.tile  # first row of the tile in the buffers of the task
        self.full = self._panels(self.tiling.row_limit(self.row) // LANES)
        self.seen = self._panels(_ceil(self._end(self.row + self.tile), LANES))
        self._scores()
        self._mask()
        self._softmax()
        self._mix()
        self._accumulate()

    def _end(self, row: Expr) -> Expr:
        """Number of positions visible to the rows before `row`."""
        return self.tiling.row_limit(row - 1)

    def _panels(self, count: Expr) -> Expr:
        """Number of the first `count` panels that belong to this chunk."""
        return tirx.max(int64(0), tirx.min(int64(CHUNK), count - self.block))

    def _stage(self) -> None:
        """Convert the chunk to float32 for all tiles of the task."""
        end = self._end((self.first + self.per_task) * self.tile)
        count = self._panels(_ceil(end, LANES))
        with _grid(count, self.d) as (b, e), self._lanes() as lane:
            value = self.keys[self.head, self.block + b, e, lane]
            T.buffer_store(self.key32, value.astype("float32"), [b, e, lane])
        with T.serial(int64(0), count * LANES) as j, self._columns() as e:
            value = self.values[self.head, self.block * LANES + j, e]
            T.buffer_store(self.value32, value.astype("float32"), [j, e])

    def _key(self, b: Expr, e: Expr, lane: Expr) -> Expr:
        if self.staged:
            return self.key32[b, e, lane]
        return self.keys[self.head, self.block + b, e, lane].astype("float32")

    def _value(self, b: Expr, j: Expr, e: Expr) -> Expr:
        if self.staged:
            return self.value32[b * LANES + j, e]
        return self.values[self.head, (self.block + b) * LANES + j, e].astype("float32")

    def _scores(self) -> None:
        with T.sblock("scoring"):
            loops = _grid(self.seen, self.tile, LANES, self.d)
            with loops as (b, r, lane, e), T.sblock("scores"):
                vb, vr, vl = _spatial(self.seen, b), _spatial(self.tile, r), _spatial(LANES, lane)
                ve = T.axis.reduce(int64(self.d), e, "int64")
                with T.init():
                    T.buffer_store(self.score, _f32(0), [vb, vr, vl])
                product = self.rows[self.head, self.row + vr, ve] * self._key(vb, ve, vl)
                T.buffer_store(self.score, self.score[vb, vr, vl] + product, [vb, vr, vl])

    def _mask(self) -> None:
        """Apply the key scales to integer scores, then set invisible positions to LOWEST."""
        if self.scales:
            with _grid(self.seen, self.tile) as (b, r), self._lanes() as lane:
                scale = self.scales[0][self.head, self.block + b, lane]
                T.buffer_store(self.score, self.score[b, r, lane] * scale, [b, r, lane])
        with T.serial(self.full, self.seen) as b, _grid(self.tile) as (r,), self._lanes() as lane:
            seen = self._position(b, lane) < self.tiling.row_limit(self.row + r)
            masked = tirx.Select(seen, self.score[b, r, lane], _f32(LOWEST))
            T.buffer_store(self.score, masked, [b, r, lane])

    def _position(self, b: Expr, lane: Expr) -> Expr:
        return (self.block + b) * LANES + lane

    def _softmax(self) -> None:
        """Replace scores by weights relative to the new maximum of their row."""
        with _grid(self.tile) as (r,):
            with self._lanes() as lane:
                T.buffer_store(self.lanes, self.score[0, r, lane], [lane])
            with T.serial(int64(1), self.seen) as b, self._lanes() as lane:
                higher = tirx.max(self.lanes[lane], self.score[b, r, lane])
                T.buffer_store(self.lanes, higher, [lane])
            before = self.peak[self.slot + r]
            T.buffer_store(self.decay, before, [r])
            peak = tirx.max(before, _across("fmax", self.lanes))
            T.buffer_store(self.peak, peak, [self.slot + r])
            T.buffer_store(self.decay, exp2(self.decay[r] - self.peak[self.slot + r]), [r])
            with self._lanes() as lane:
                scaled = self.total[self.slot + r, lane] * self.decay[r]
                T.buffer_store(self.total, scaled, [self.slot + r, lane])
        with _grid(self.seen, self.tile) as (b, r), self._lanes() as lane:
            weight = exp2(self.score[b, r, lane] - self.peak[self.slot + r])
            T.buffer_store(self.score, weight, [b, r, lane])
            total = self.total[self.slot + r, lane] + self.score[b, r, lane]
            T.buffer_store(self.total, total, [self.slot + r, lane])
        if self.scales:
            self._scale_weights()

    def _scale_weights(self) -> None:
        """Multiply the weights by the value scales; scales of invisible positions are undefined."""
        scale = lambda b, lane: self.scales[1][self.head, self.block + b, lane]  # noqa: E731
        with _grid(self.full, self.tile) as (b, r), self._lanes() as lane:
            T.buffer_store(self.score, self.score[b, r, lane] * scale(b, lane), [b, r, lane])
        with T.serial(self.full, self.seen) as b, _grid(self.tile) as (r,), self._lanes() as lane:
            seen = self._position(b, lane) < self.tiling.row_limit(self.row + r)
            scaled = self.score[b, r, lane] * scale(b, lane)
            T.buffer_store(self.score, tirx.Select(seen, scaled, _f32(0)), [b, r, lane])

    def _mix(self) -> None:
        """Weights times values over the panels that are fully visible to all rows."""
        with T.sblock("mixing"):
            loops = _grid(self.tile, self.d, self.full, LANES)
            with loops as (r, e, b, j), T.sblock("mix"):
                vr, ve = _spatial(self.tile, r), _spatial(self.d, e)
                vb, vj = (
                    T.axis.reduce(self.full, b, "int64"),
                    T.axis.reduce(int64(LANES), j, "int64"),
                )
                with T.init():
                    T.buffer_store(self.mixed, _f32(0), [vr, ve])
                product = self.score[vb, vr, vj] * self._value(vb, vj, ve)
                T.buffer_store(self.mixed, self.mixed[vr, ve] + product, [vr, ve])

    def _accumulate(self) -> None:
        with _grid(self.tile) as (r,), self._columns() as e:
            so_far = self.sum[self.slot + r, e] * self.decay[r]
            T.buffer_store(self.sum, so_far + self.mixed[r, e], [self.slot + r, e])
        with T.sblock("seam"):
            T.where(self.full < self.seen)
            self._seam()
            with _grid(self.tile) as (r,), self._columns() as e:
                so_far = self.sum[self.slot + r, e]
                T.buffer_store(self.sum, so_far + self.seam[r, e], [self.slot + r, e])

    def _seam(self) -> None:
        """Weights times values over partly visible panels. Invisible values may be NaN, so they are
        replaced by zero."""
        count = self.seen - self.full
        with T.sblock("mixing_edge"):
            loops = _grid(self.tile, self.d, count, LANES)
            with loops as (r, e, b, j), T.sblock("edge"):
                vr, ve = _spatial(self.tile, r), _spatial(self.d, e)
                vb, vj = T.axis.reduce(count, b, "int64"), T.axis.reduce(int64(LANES), j, "int64")
                with T.init():
                    T.buffer_store(self.seam, _f32(0), [vr, ve])
                at = self.full + vb
                seen = self._position(at, vj) < self.tiling.row_limit(self.row + vr)
                value = tirx.Select(seen, self._value(at, vj, ve), _f32(0))
                product = self.score[at, vr, vj] * value
                T.buffer_store(self.seam, self.seam[vr, ve] + product, [vr, ve])

    def _finish(self) -> None:
        """Divide by the sum of the weights and drop the padding rows."""
        group, s = self.tiling.group, self.tiling.queries
        first = self.first * self.tile
        count = tirx.min(int64(self.per_task * self.tile), s * group - first)
        with T.serial(int64(0), count) as r:
            query, head = (first + r) // group, self.head * group + (first + r) % group
            with self._lanes() as lane:
                T.buffer_store(self.lanes, self.total[r, lane], [lane])
            T.buffer_store(self.decay, _f32(1) / _across("fadd", self.lanes), [0])
            with self._columns() as e:
                T.buffer_store(self.out, self.sum[r, e] * self.decay[0], [query, head * self.d + e])

    @contextmanager
    def _columns(self) -> Iterator[Expr]:
        """A loop over the head_dim columns, in vectors of up to 16."""
        width = next(n for n in (16, 8, 4, 2, 1) if self.d % n == 0)
        with T.serial(int64(0), int64(self.d // width)) as outer:
            if width == 1:
                yield outer
            else:
                with T.vectorized(int64(0), int64(width)) as inner:
                    yield outer * width + inner

    def _lanes(self):
        return T.vectorized(int64(0), int64(LANES))


def _across(reduction: str, lanes: tirx.Buffer) -> Expr:
    """Maximum or sum across the lanes of one vector."""
    vector = lanes.vload([int64(0)], f"float32x{LANES}")
    start = [_f32(0)] if reduction == "fadd" else []
    name = f"llvm.vector.reduce.{reduction}"
    return tirx.call_llvm_pure_intrin("float32", name, *start, vector)


@contextmanager
def _grid(*extents):
    with T.grid(*map(int64, extents)) as loops:
        yield tuple(loops) if len(extents) > 1 else (loops,)


def _spatial(extent, binding: Expr) -> Expr:
    return T.axis.spatial(int64(extent), binding, "int64")


def _ceil(value: Expr, unit: int) -> Expr:
    return (value + (unit - 1)) // unit


def _f32(value: float) -> tirx.FloatImm:
    return tirx.FloatImm("float32", value)
