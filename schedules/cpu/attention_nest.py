"""The hand-written loop nest of attention on a CPU: tiles of query rows iterate over chunks of
positions.

A task owns a kv head and a few tiles of rows. For each chunk and tile it computes scores, the new
maximum, the weights and their product with the values. It rescales the previous sum to the new
maximum and accumulates the product (online softmax, Milakov and Gimelshein 2018,
https://arxiv.org/abs/1805.02867). No buffer grows with the sequence length, and panels that no row
of the tile may attend to are not read. The schedule decides how the loops of the blocks "scores",
"mix" and "edge" run.

Two passes find the maxima first ("peak_scores"), so that nothing is rescaled. The positions of one
query may be split among tasks; each then leaves its sums and maxima to `combine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..loops import ceil_div, f32, grid, int64, parts_of, spatial
from .attention_parts import Partial, combine
from .attention_shape import KEYS, VALUES, Buffers, Shape, across, lanes, whole
from .attention_tile import LOWEST, Tile


def attention_nest(shape: Shape) -> None:
    """Emit the nest into the enclosing block."""
    parts, heads, blocks = shape.blocking.parts, shape.kv_heads, shape.blocks
    partial = Partial.of(shape) if parts > 1 else None
    with grid(blocks * (heads * parts)) as (number,), T.sblock("task"):
        number = spatial(blocks * (heads * parts), number)
        T.reads(*map(whole, shape.operands.inputs))
        T.writes(*map(whole, partial.buffers if partial else [shape.operands.out]))
        part = number % parts if partial else int64(0)
        number = number // parts if partial else number
        head, block = parts_of(number, blocks)
        first = block * shape.blocking.tiles
        _Task(shape, head, first, part, shape.buffers()).run(partial)
    if partial:
        combine(shape, partial)


@dataclass(frozen=True)
class _Task:
    """Emits the work of one task: a few tiles of rows of one kv head."""

    shape: Shape
    head: Expr
    first: Expr  # index of the first tile
    part: Expr  # of the positions
    kept: Buffers

    def run(self, partial: Partial | None) -> None:
        self._start()
        staged = self.shape.blocking.staged
        if self.shape.blocking.passes == 2:
            self._over_chunks(Tile.survey, staged & KEYS)
        self._over_chunks(Tile.accumulate, staged)
        if partial:
            partial.keep(self.shape, self.kept, self.head, self.first, self.part)
        else:
            self._finish()

    def _start(self) -> None:
        kept = self.kept
        with T.serial(int64(0), int64(self.shape.height)) as r:
            T.buffer_store(kept.peak, f32(LOWEST), [r])
            with lanes() as lane:
                T.buffer_store(kept.total, f32(0), [r, lane])
            with self.shape.columns() as e:
                T.buffer_store(kept.sum, f32(0), [r, e])

    def _end(self) -> Expr:
        """Number of positions visible to some row of the task."""
        return self.shape.end((self.first + self.shape.blocking.tiles) * self.shape.tile)

    def _chunks(self) -> Expr:
        """Number of chunks with these positions."""
        return ceil_div(self._end(), self.shape.blocking.chunk * LANES)

    def _over_chunks(self, step: Callable[[Tile], None], staged: int) -> None:
        """Take the step for each tile and each chunk of the part."""
        chunks, parts = self._chunks(), self.shape.blocking.parts
        if parts == 1:
            with T.serial(int64(0), chunks) as chunk:
                self._chunk(step, chunk, staged)
            return
        most = ceil_div(chunks, parts)
        start = self.part * most
        count = tirx.max(int64(0), tirx.min(most, chunks - start))
        with T.serial(int64(0), count) as turn:
            self._chunk(step, start + turn, staged)

    def _chunk(self, step: Callable[[Tile], None], chunk: Expr, staged: int) -> None:
        shape, size = self.shape, self.shape.blocking.chunk
        block, per_task = chunk * size, shape.blocking.tiles
        self._stage(block, staged)
        tiles = tirx.min(int64(per_task), shape.tiling.tiles - self.first)
        with T.serial(int64(0), tiles) as t, T.sblock("tile"):
            T.where(block * LANES < shape.end((self.first + t + 1) * shape.tile))
            slot, inside = spatial(per_task, t), T.axis.opaque(self._chunks(), chunk, "int64")
            row = (self.first + slot) * shape.tile
            step(Tile(shape, self.kept, self.head, inside * size, row, slot * shape.tile))

    def _stage(self, block: Expr, staged: int) -> None:
        """Convert the chunk to float32 for all tiles of the task."""
        shape, kept = self.shape, self.kept
        count = shape.in_chunk(block, ceil_div(self._end(), LANES))
        if staged & KEYS:
            with grid(count, shape.d) as (b, e), lanes() as lane:
                value = shape.operands.keys[self.head, block + b, e, lane]
                T.buffer_store(kept.keys, value.astype("float32"), [b, e, lane])
        if staged & VALUES:
            with T.serial(int64(0), count * LANES) as j, shape.columns() as e:
                value = shape.operands.values[self.head, block * LANES + j, e]
                T.buffer_store(kept.values, value.astype("float32"), [j, e])

    def _finish(self) -> None:
        """Divide by the sum of the weights and drop the padding rows."""
        shape, kept, out = self.shape, self.kept, self.shape.operands.out
        group, s = shape.tiling.group, shape.tiling.queries
        first = self.first * shape.tile
        count = tirx.min(int64(shape.height), s * group - first)
        with T.serial(int64(0), count) as r:
            query, head = (first + r) // group, self.head * group + (first + r) % group
            with lanes() as lane:
                T.buffer_store(kept.lanes, kept.total[r, lane], [lane])
            T.buffer_store(kept.decay, f32(1) / across("fadd", kept.lanes), [0])
            with shape.columns() as e:
                result = kept.sum[r, e] * kept.decay[0]
                T.buffer_store(out, result, [query, head * shape.d + e])
