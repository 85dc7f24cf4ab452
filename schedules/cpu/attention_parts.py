"""Attention of one query whose positions are split among tasks, for few kv heads on many cores.

Every task leaves the sum of its weighted values, the sum of its weights and their maximum. A small
pass afterwards rescales the parts to the largest maximum and adds them. A part without visible
positions has sums of zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import f32, grid, int64, spatial
from .attention_shape import Buffers, Shape, across, lanes, new
from .attention_tile import LOWEST
from .exponential import exp2


@dataclass(frozen=True)
class Partial:
    """Results of all parts, in blocks of rows of a task."""

    sum: tirx.Buffer  # (h_kv, parts, rows, d)
    total: tirx.Buffer  # (h_kv, parts, rows)
    peak: tirx.Buffer  # (h_kv, parts, rows)

    @classmethod
    def of(cls, shape: Shape) -> Partial:
        """Buffers of the enclosing block, for a constant number of rows."""
        size = (shape.kv_heads, shape.blocking.parts, shape.blocks * shape.height)
        return cls(new(*size, shape.d), new(*size), new(*size))

    @property
    def buffers(self) -> tuple[tirx.Buffer, ...]:
        return (self.sum, self.total, self.peak)

    def keep(self, shape: Shape, kept: Buffers, head: Expr, first: Expr, part: Expr) -> None:
        """Store the results of the task whose first tile is `first`."""
        with grid(shape.height) as (r,):
            at = [head, part, first * shape.tile + r]
            with lanes() as lane:
                T.buffer_store(kept.lanes, kept.total[r, lane], [lane])
            T.buffer_store(self.total, across("fadd", kept.lanes), at)
            T.buffer_store(self.peak, kept.peak[r], at)
            with shape.columns() as e:
                T.buffer_store(self.sum, kept.sum[r, e], [*at, e])


def combine(shape: Shape, partial: Partial) -> None:
    """Add the parts of each row and divide by the sum of all weights."""
    parts, group, out = shape.blocking.parts, shape.tiling.group, shape.operands.out
    with grid(shape.kv_heads, shape.tiling.queries * group) as (n, r), T.sblock("combine"):
        head = spatial(shape.kv_heads, n)
        row = spatial(shape.tiling.queries * group, r)
        share = _shares(shape, partial, head, row)
        place = lambda e: [row // group, (head * group + row % group) * shape.d + e]  # noqa: E731
        with shape.columns() as e:
            T.buffer_store(out, partial.sum[head, 0, row, e] * share[0], place(e))
        with T.serial(int64(1), int64(parts)) as p, shape.columns() as e:
            added = partial.sum[head, p, row, e] * share[p]
            T.buffer_store(out, out[tuple(place(e))] + added, place(e))


def _shares(shape: Shape, partial: Partial, head: Expr, row: Expr) -> tirx.Buffer:
    """The factor of each part's sum."""
    parts = shape.blocking.parts
    share, peak, total = new(parts), new(1), new(1)
    T.buffer_store(peak, f32(LOWEST), [0])
    with grid(parts) as (p,):
        T.buffer_store(peak, tirx.max(peak[0], partial.peak[head, p, row]), [0])
    T.buffer_store(total, f32(0), [0])
    with grid(parts) as (p,):
        T.buffer_store(share, exp2(partial.peak[head, p, row] - peak[0]), [p])
        T.buffer_store(total, total[0] + share[p] * partial.total[head, p, row], [0])
    with grid(parts) as (p,):
        T.buffer_store(share, share[p] / total[0], [p])
    return share
