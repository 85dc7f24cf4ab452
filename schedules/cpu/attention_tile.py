"""One tile of rows against one chunk of positions: scores, weights, and their product with the
values."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..isa.register_tiles import LANES
from ..loops import ceil_div, f32, grid, int64, spatial
from .attention_shape import Buffers, Shape, across, lanes
from .exponential import exp2
from .integer_scores import integer_scores

LOWEST = -3.0e38


@dataclass(frozen=True)
class Tile:
    """Emits the work on a tile and a chunk with at least one visible position."""

    shape: Shape
    kept: Buffers
    head: Expr
    block: Expr  # first panel of the chunk
    row: Expr  # first row of the tile
    slot: Expr  # first row of the tile in the buffers of the task

    @property
    def full(self) -> Expr:
        """Number of panels that are fully visible to all rows."""
        shape = self.shape
        return shape.in_chunk(self.block, shape.tiling.row_limit(self.row) // LANES)

    @property
    def seen(self) -> Expr:
        """Number of panels with a position visible to some row."""
        shape = self.shape
        return shape.in_chunk(self.block, ceil_div(shape.end(self.row + shape.tile), LANES))

    def accumulate(self) -> None:
        """Add weights times values to the sums of the rows.

        With one pass over the positions, the maxima are raised and previous sums rescaled first.
        """
        online = self.shape.blocking.passes == 1
        self._scores("scores")
        self._mask()
        if online:
            with grid(self.shape.tile) as (r,):
                self._raise_peak(r)
                self._rescale(r)
        self._weigh()
        if self.shape.operands.scales:
            self._scale_weights()
        self._mix()
        self._add(online)

    def survey(self) -> None:
        """Only raise the maxima of the rows."""
        self._scores("peak_scores")
        self._mask()
        with grid(self.shape.tile) as (r,):
            self._raise_peak(r)

    def _key(self, b: Expr, e: Expr, lane: Expr) -> Expr:
        if self.kept.keys is not None:
            return self.kept.keys[b, e, lane]
        return self.shape.operands.keys[self.head, self.block + b, e, lane].astype("float32")

    def _value(self, b: Expr, j: Expr, e: Expr) -> Expr:
        if self.kept.values is not None:
            return self.kept.values[b * LANES + j, e]
        values = self.shape.operands.values
        return values[self.head, (self.block + b) * LANES + j, e].astype("float32")

    def _sees(self, r: Expr, b: Expr, lane: Expr) -> Expr:
        """Whether position `lane` of panel `b` is visible to row `r` of the tile."""
        return (self.block + b) * LANES + lane < self.shape.tiling.row_limit(self.row + r)

    def _scores(self, name: str) -> None:
        shape, score, rows = self.shape, self.kept.score, self.shape.operands.rows
        if shape.blocking.products:
            integer_scores(shape, score, self.head, self.block, self.row, self.seen)
            return
        with T.sblock("scoring"):
            loops = grid(self.seen, shape.tile, LANES, shape.d)
            with loops as (b, r, lane, e), T.sblock(name):
                vb, vr, vl = spatial(self.seen, b), spatial(shape.tile, r), spatial(LANES, lane)
                ve = T.axis.reduce(int64(shape.d), e, "int64")
                with T.init():
                    T.buffer_store(score, f32(0), [vb, vr, vl])
                product = rows[self.head, self.row + vr, ve] * self._key(vb, ve, vl)
                T.buffer_store(score, score[vb, vr, vl] + product, [vb, vr, vl])

    def _mask(self) -> None:
        """Apply the key scales to integer scores, then set invisible positions to LOWEST."""
        shape, score, scales = self.shape, self.kept.score, self.shape.operands.scales
        if scales:
            with grid(self.seen, shape.tile) as (b, r), lanes() as lane:
                scale = scales[0][self.head, self.block + b, lane]
                T.buffer_store(score, score[b, r, lane] * scale, [b, r, lane])
        with T.serial(self.full, self.seen) as b, grid(shape.tile) as (r,), lanes() as lane:
            masked = tirx.Select(self._sees(r, b, lane), score[b, r, lane], f32(LOWEST))
            T.buffer_store(score, masked, [b, r, lane])

    def _raise_peak(self, r: Expr) -> None:
        """Update the maximum of a row; the one before is in `decay`."""
        kept, at = self.kept, self.slot + r
        with lanes() as lane:
            T.buffer_store(kept.lanes, kept.score[0, r, lane], [lane])
        with T.serial(int64(1), self.seen) as b, lanes() as lane:
            higher = tirx.max(kept.lanes[lane], kept.score[b, r, lane])
            T.buffer_store(kept.lanes, higher, [lane])
        before = kept.peak[at]
        T.buffer_store(kept.decay, before, [r])
        T.buffer_store(kept.peak, tirx.max(before, across("fmax", kept.lanes)), [at])

    def _rescale(self, r: Expr) -> None:
        """Rescale the previous sum of weights to the new maximum."""
        kept, at = self.kept, self.slot + r
        T.buffer_store(kept.decay, exp2(kept.decay[r] - kept.peak[at]), [r])
        with lanes() as lane:
            T.buffer_store(kept.total, kept.total[at, lane] * kept.decay[r], [at, lane])

    def _weigh(self) -> None:
        """Replace scores by weights relative to the maximum of their row, and sum them up."""
        kept = self.kept
        with grid(self.seen, self.shape.tile) as (b, r), lanes() as lane:
            weight = exp2(kept.score[b, r, lane] - kept.peak[self.slot + r])
            T.buffer_store(kept.score, weight, [b, r, lane])
            total = kept.total[self.slot + r, lane] + kept.score[b, r, lane]
            T.buffer_store(kept.total, total, [self.slot + r, lane])

    def _scale_weights(self) -> None:
        """Multiply the weights by the value scales; scales of invisible positions are undefined."""
        tile, score, scales = self.shape.tile, self.kept.score, self.shape.operands.scales
        scale = lambda b, lane: scales[1][self.head, self.block + b, lane]  # noqa: E731
        with grid(self.full, tile) as (b, r), lanes() as lane:
            T.buffer_store(score, score[b, r, lane] * scale(b, lane), [b, r, lane])
        with T.serial(self.full, self.seen) as b, grid(tile) as (r,), lanes() as lane:
            scaled = score[b, r, lane] * scale(b, lane)
            weight = tirx.Select(self._sees(r, b, lane), scaled, f32(0))
            T.buffer_store(score, weight, [b, r, lane])

    def _mix(self) -> None:
        """Weights times values over the panels that are fully visible to all rows."""
        shape, kept = self.shape, self.kept
        with T.sblock("mixing"):
            loops = grid(shape.tile, shape.d, self.full, LANES)
            with loops as (r, e, b, j), T.sblock("mix"):
                vr, ve = spatial(shape.tile, r), spatial(shape.d, e)
                vb = T.axis.reduce(self.full, b, "int64")
                vj = T.axis.reduce(int64(LANES), j, "int64")
                with T.init():
                    T.buffer_store(kept.mixed, f32(0), [vr, ve])
                product = kept.score[vb, vr, vj] * self._value(vb, vj, ve)
                T.buffer_store(kept.mixed, kept.mixed[vr, ve] + product, [vr, ve])

    def _add(self, online: bool) -> None:
        shape, kept = self.shape, self.kept
        with grid(shape.tile) as (r,), shape.columns() as e:
            before = kept.sum[self.slot + r, e]
            so_far = before * kept.decay[r] if online else before
            T.buffer_store(kept.sum, so_far + kept.mixed[r, e], [self.slot + r, e])
        with T.sblock("seam"):
            T.where(self.full < self.seen)
            self._seam()
            with grid(shape.tile) as (r,), shape.columns() as e:
                so_far = kept.sum[self.slot + r, e]
                T.buffer_store(kept.sum, so_far + kept.seam[r, e], [self.slot + r, e])

    def _seam(self) -> None:
        """Weights times values over partly visible panels. Invisible values may be NaN, so they are
        replaced by zero."""
        shape, kept, count = self.shape, self.kept, self.seen - self.full
        with T.sblock("mixing_edge"):
            loops = grid(shape.tile, shape.d, count, LANES)
            with loops as (r, e, b, j), T.sblock("edge"):
                vr, ve = spatial(shape.tile, r), spatial(shape.d, e)
                vb, vj = T.axis.reduce(count, b, "int64"), T.axis.reduce(int64(LANES), j, "int64")
                with T.init():
                    T.buffer_store(kept.seam, f32(0), [vr, ve])
                at = self.full + vb
                value = tirx.Select(self._sees(vr, at, vj), self._value(at, vj, ve), f32(0))
                product = kept.score[at, vr, vj] * value
                T.buffer_store(kept.seam, kept.seam[vr, ve] + product, [vr, ve])
