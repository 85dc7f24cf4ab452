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
from .loops import ceil_div, spatial

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


@dataclass(frozen=True)
class _Tile:
    """One tile of rows against one chunk with at least one visible position."""

    block: Expr  # first panel of the chunk
    row: Expr  # first row of the tile
    slot: Expr  # first row of the tile in the buffers of the task
    full: Expr  # number of panels that are fully visible to all rows
    seen: Expr  # number of panels with a position visible to some row

    def position(self, b: Expr, lane: Expr) -> Expr:
        return (self.block + b) * LANES + lane


@dataclass(frozen=True)
class _Buffers:
    """Buffers of a task, in order of allocation."""

    score: tirx.Buffer
    mixed: tirx.Buffer
    seam: tirx.Buffer
    sum: tirx.Buffer
    total: tirx.Buffer
    peak: tirx.Buffer
    decay: tirx.Buffer
    lanes: tirx.Buffer
    staged: tuple[tirx.Buffer, ...]  # float32 keys and values of the chunk, or empty


class _Nest:
    """Emits the statement. Its attributes are constant: sizes and the buffers of the operator."""

    def __init__(self, tiling: Tiling, ins: list[tirx.Buffer], out: tirx.Buffer) -> None:
        self.tiling, self.out = tiling, out
        self.rows, self.keys, self.values, *self.scales = ins
        self.kv_heads, self.d = int(self.rows.shape[0]), int(self.rows.shape[2])
        self.tile, self.per_task = tiling.tile, tiling.tiles_per_task
        self.staged = self.per_task > 1 and self.keys.dtype != "float32"

    def statement(self) -> tirx.Stmt:
        blocks = ceil_div(self.tiling.tiles, self.per_task)
        with IRBuilder() as ib, _grid(blocks * self.kv_heads) as (number,), T.sblock("task"):
            number = spatial(blocks * self.kv_heads, number)
            head, first = number // blocks, number % blocks * self.per_task
            task = _Task(self, head, first, self._buffers())
            task.start()
            with T.serial(int64(0), task.chunks()) as chunk:
                task.chunk(chunk)
            task.finish()
        return ib.get()

    def _buffers(self) -> _Buffers:
        height, d = self.per_task * self.tile, self.d
        f32 = lambda *shape: T.sblock_alloc_buffer(shape, "float32")  # noqa: E731
        return _Buffers(
            score=f32(CHUNK, self.tile, LANES),
            mixed=f32(self.tile, d),
            seam=f32(self.tile, d),
            sum=f32(height, d),
            total=f32(height, LANES),
            peak=f32(height),
            decay=f32(self.tile),
            lanes=f32(LANES),
            staged=(f32(CHUNK, d, LANES), f32(CHUNK * LANES, d)) if self.staged else (),
        )

    def end(self, row: Expr) -> Expr:
        """Number of positions visible to the rows before `row`."""
        return self.tiling.row_limit(row - 1)

    @contextmanager
    def columns(self) -> Iterator[Expr]:
        """A loop over the head_dim columns, in vectors of up to 16."""
        width = next(n for n in (16, 8, 4, 2, 1) if self.d % n == 0)
        with T.serial(int64(0), int64(self.d // width)) as outer:
            if width == 1:
                yield outer
            else:
                with T.vectorized(int64(0), int64(width)) as inner:
                    yield outer * width + inner


@dataclass(frozen=True)
class _Task:
    """Emits the work of one task: a few tiles of rows of one kv head."""

    nest: _Nest
    head: Expr
    first: Expr  # index of the first tile
    kept: _Buffers

    def chunks(self) -> Expr:
        """Number of chunks visible to some row of the task."""
        return ceil_div(self._end(), CHUNK * LANES)

    def _end(self) -> Expr:
        return self.nest.end((self.first + self.nest.per_task) * self.nest.tile)

    def start(self) -> None:
        nest, kept = self.nest, self.kept
        with T.serial(int64(0), int64(nest.per_task * nest.tile)) as r:
            T.buffer_store(kept.peak, _f32(LOWEST), [r])
            with T.vectorized(int64(0), int64(LANES)) as lane:
                T.buffer_store(kept.total, _f32(0), [r, lane])
            with nest.columns() as e:
                T.buffer_store(kept.sum, _f32(0), [r, e])

    def chunk(self, chunk: Expr) -> None:
        nest, block = self.nest, chunk * CHUNK
        if nest.staged:
            self._stage(block)
        tiles = tirx.min(int64(nest.per_task), nest.tiling.tiles - self.first)
        with T.serial(int64(0), tiles) as t, T.sblock("tile"):
            T.where(block * LANES < nest.end((self.first + t + 1) * nest.tile))
            slot, inside = spatial(nest.per_task, t), T.axis.opaque(self.chunks(), chunk, "int64")
            self._tile(self._place(slot, inside * CHUNK))

    def _place(self, t: Expr, block: Expr) -> _Tile:
        nest = self.nest
        row = (self.first + t) * nest.tile
        full = _in_chunk(block, nest.tiling.row_limit(row) // LANES)
        seen = _in_chunk(block, ceil_div(nest.end(row + nest.tile), LANES))
        return _Tile(block, row, t * nest.tile, full, seen)

    def _tile(self, tile: _Tile) -> None:
        self._scores(tile)
        self._mask(tile)
        self._softmax(tile)
        self._mix(tile)
        self._accumulate(tile)

    def _stage(self, block: Expr) -> None:
        """Convert the chunk to float32 for all tiles of the task."""
        nest, (keys, values) = self.nest, self.kept.staged
        count = _in_chunk(block, ceil_div(self._end(), LANES))
        with _grid(count, nest.d) as (b, e), _lanes() as lane:
            value = nest.keys[self.head, block + b, e, lane]
            T.buffer_store(keys, value.astype("float32"), [b, e, lane])
        with T.serial(int64(0), count * LANES) as j, nest.columns() as e:
            value = nest.values[self.head, block * LANES + j, e]
            T.buffer_store(values, value.astype("float32"), [j, e])

    def _key(self, tile: _Tile, b: Expr, e: Expr, lane: Expr) -> Expr:
        if self.nest.staged:
            return self.kept.staged[0][b, e, lane]
        return self.nest.keys[self.head, tile.block + b, e, lane].astype("float32")

    def _value(self, tile: _Tile, b: Expr, j: Expr, e: Expr) -> Expr:
        if self.nest.staged:
            return self.kept.staged[1][b * LANES + j, e]
        return self.nest.values[self.head, (tile.block + b) * LANES + j, e].astype("float32")

    def _sees(self, tile: _Tile, r: Expr, b: Expr, lane: Expr) -> Expr:
        """Whether position `lane` of panel `b` is visible to row `r` of the tile."""
        return tile.position(b, lane) < self.nest.tiling.row_limit(tile.row + r)

    def _scores(self, tile: _Tile) -> None:
        nest, score = self.nest, self.kept.score
        with T.sblock("scoring"):
            loops = _grid(tile.seen, nest.tile, LANES, nest.d)
            with loops as (b, r, lane, e), T.sblock("scores"):
                vb, vr, vl = spatial(tile.seen, b), spatial(nest.tile, r), spatial(LANES, lane)
                ve = T.axis.reduce(int64(nest.d), e, "int64")
                with T.init():
                    T.buffer_store(score, _f32(0), [vb, vr, vl])
                product = nest.rows[self.head, tile.row + vr, ve] * self._key(tile, vb, ve, vl)
                T.buffer_store(score, score[vb, vr, vl] + product, [vb, vr, vl])

    def _mask(self, tile: _Tile) -> None:
        """Apply the key scales to integer scores, then set invisible positions to LOWEST."""
        nest, score = self.nest, self.kept.score
        if nest.scales:
            with _grid(tile.seen, nest.tile) as (b, r), _lanes() as lane:
                scale = nest.scales[0][self.head, tile.block + b, lane]
                T.buffer_store(score, score[b, r, lane] * scale, [b, r, lane])
        with T.serial(tile.full, tile.seen) as b, _grid(nest.tile) as (r,), _lanes() as lane:
            seen = self._sees(tile, r, b, lane)
            masked = tirx.Select(seen, score[b, r, lane], _f32(LOWEST))
            T.buffer_store(score, masked, [b, r, lane])

    def _softmax(self, tile: _Tile) -> None:
        """Replace scores by weights relative to the new maximum of their row."""
        with _grid(self.nest.tile) as (r,):
            self._raise_peak(tile, r)
        self._weigh(tile)
        if self.nest.scales:
            self._scale_weights(tile)

    def _raise_peak(self, tile: _Tile, r: Expr) -> None:
        """Update the maximum of a row and rescale the previous sum of weights to it."""
        kept, at = self.kept, tile.slot + r
        with _lanes() as lane:
            T.buffer_store(kept.lanes, kept.score[0, r, lane], [lane])
        with T.serial(int64(1), tile.seen) as b, _lanes() as lane:
            higher = tirx.max(kept.lanes[lane], kept.score[b, r, lane])
            T.buffer_store(kept.lanes, higher, [lane])
        before = kept.peak[at]
        T.buffer_store(kept.decay, before, [r])
        T.buffer_store(kept.peak, tirx.max(before, _across("fmax", kept.lanes)), [at])
        T.buffer_store(kept.decay, exp2(kept.decay[r] - kept.peak[at]), [r])
        with _lanes() as lane:
            T.buffer_store(kept.total, kept.total[at, lane] * kept.decay[r], [at, lane])

    def _weigh(self, tile: _Tile) -> None:
        """Exponentiate the scores and add them to the sums of weights."""
        kept = self.kept
        with _grid(tile.seen, self.nest.tile) as (b, r), _lanes() as lane:
            weight = exp2(kept.score[b, r, lane] - kept.peak[tile.slot + r])
            T.buffer_store(kept.score, weight, [b, r, lane])
            total = kept.total[tile.slot + r, lane] + kept.score[b, r, lane]
            T.buffer_store(kept.total, total, [tile.slot + r, lane])

    def _scale_weights(self, tile: _Tile) -> None:
        """Multiply the weights by the value scales; scales of invisible positions are undefined."""
        nest, score = self.nest, self.kept.score
        scale = lambda b, lane: nest.scales[1][self.head, tile.block + b, lane]  # noqa: E731
        with _grid(tile.full, nest.tile) as (b, r), _lanes() as lane:
            T.buffer_store(score, score[b, r, lane] * scale(b, lane), [b, r, lane])
        with T.serial(tile.full, tile.seen) as b, _grid(nest.tile) as (r,), _lanes() as lane:
            seen = self._sees(tile, r, b, lane)
            scaled = score[b, r, lane] * scale(b, lane)
            T.buffer_store(score, tirx.Select(seen, scaled, _f32(0)), [b, r, lane])

    def _mix(self, tile: _Tile) -> None:
        """Weights times values over the panels that are fully visible to all rows."""
        nest, kept = self.nest, self.kept
        with T.sblock("mixing"):
            loops = _grid(nest.tile, nest.d, tile.full, LANES)
            with loops as (r, e, b, j), T.sblock("mix"):
                vr, ve = spatial(nest.tile, r), spatial(nest.d, e)
                vb = T.axis.reduce(tile.full, b, "int64")
                vj = T.axis.reduce(int64(LANES), j, "int64")
                with T.init():
                    T.buffer_store(kept.mixed, _f32(0), [vr, ve])
                product = kept.score[vb, vr, vj] * self._value(tile, vb, vj, ve)
                T.buffer_store(kept.mixed, kept.mixed[vr, ve] + product, [vr, ve])

    def _accumulate(self, tile: _Tile) -> None:
        nest, kept = self.nest, self.kept
        with _grid(nest.tile) as (r,), nest.columns() as e:
            so_far = kept.sum[tile.slot + r, e] * kept.decay[r]
            T.buffer_store(kept.sum, so_far + kept.mixed[r, e], [tile.slot + r, e])
        with T.sblock("seam"):
            T.where(tile.full < tile.seen)
            self._seam(tile)
            with _grid(nest.tile) as (r,), nest.columns() as e:
                so_far = kept.sum[tile.slot + r, e]
                T.buffer_store(kept.sum, so_far + kept.seam[r, e], [tile.slot + r, e])

    def _seam(self, tile: _Tile) -> None:
        """Weights times values over partly visible panels. Invisible values may be NaN, so they are
        replaced by zero."""
        nest, kept, count = self.nest, self.kept, tile.seen - tile.full
        with T.sblock("mixing_edge"):
            loops = _grid(nest.tile, nest.d, count, LANES)
            with loops as (r, e, b, j), T.sblock("edge"):
                vr, ve = spatial(nest.tile, r), spatial(nest.d, e)
                vb, vj = T.axis.reduce(count, b, "int64"), T.axis.reduce(int64(LANES), j, "int64")
                with T.init():
                    T.buffer_store(kept.seam, _f32(0), [vr, ve])
                at = tile.full + vb
                seen = self._sees(tile, vr, at, vj)
                value = tirx.Select(seen, self._value(tile, at, vj, ve), _f32(0))
                product = kept.score[at, vr, vj] * value
                T.buffer_store(kept.seam, kept.seam[vr, ve] + product, [vr, ve])

    def finish(self) -> None:
        """Divide by the sum of the weights and drop the padding rows."""
        nest, kept = self.nest, self.kept
        group, s = nest.tiling.group, nest.tiling.queries
        first = self.first * nest.tile
        count = tirx.min(int64(nest.per_task * nest.tile), s * group - first)
        with T.serial(int64(0), count) as r:
            query, head = (first + r) // group, self.head * group + (first + r) % group
            with _lanes() as lane:
                T.buffer_store(kept.lanes, kept.total[r, lane], [lane])
            T.buffer_store(kept.decay, _f32(1) / _across("fadd", kept.lanes), [0])
            with nest.columns() as e:
                result = kept.sum[r, e] * kept.decay[0]
                T.buffer_store(nest.out, result, [query, head * nest.d + e])


def _in_chunk(block: Expr, count: Expr) -> Expr:
    """Number of the first `count` panels that belong to the chunk starting at panel `block`."""
    return tirx.max(int64(0), tirx.min(int64(CHUNK), count - block))


def _lanes():
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


def _f32(value: float) -> tirx.FloatImm:
    return tirx.FloatImm("float32", value)
