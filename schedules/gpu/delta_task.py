"""A thread's place in the delta rule on a GPU, and what its workgroup reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..delta_operands import Operands
from ..loops import int64
from .short_vectors import ramp, vector_of

QUERIES, KEYS = 0, 1
STEPS, DECAYS = 0, 1
WIDTH = 4
"""Most elements of a vector."""


def width_of(extent: int) -> int:
    """The elements of a vector that divides `extent`."""
    return gcd(extent, WIDTH)


@dataclass(frozen=True)
class Task:
    """Thread `number` of `threads` for tile `tile` of `columns` columns of head `head`."""

    operands: Operands
    columns: int
    threads: int
    tile: Expr
    head: Expr
    number: Expr

    @contextmanager
    def each(self, count: int, loop: Callable = T.serial) -> Iterator[Expr]:
        """A loop over the indices below `count`; adjacent threads take adjacent indices.

        Its body may be in a condition, so it must not contain a barrier.
        """
        with loop(int64(0), int64(-(-count // self.threads))) as turn:
            i = turn * self.threads + self.number
            if count % self.threads == 0:
                yield i
            else:
                with T.If(i < count), T.Then():
                    yield i

    def column(self, x: Expr) -> Expr:
        """Column x of the tile, within the head."""
        return self.tile * self.columns + x

    def output(self, x: Expr) -> Expr:
        """Column x of the tile, within all heads."""
        return self.head * self.operands.sizes[2] + self.column(x)

    def unit(self, position: Expr, kind: Expr | int, c: Expr) -> Expr:
        """Element c of the query or the key (`kind` QUERIES or KEYS) of a position."""
        head = self.operands.key_head(self.head) + kind * self.operands.key_heads
        return self.operands.unit[position, head * self.operands.sizes[1] + c]

    def value(self, position: Expr, x: Expr) -> Expr:
        return self.operands.mixed[position, self.operands.first_value + self.output(x)]

    def values(self, position: Expr, x: Expr, width: int) -> Expr:
        """The values of `width` columns from x on, a multiple of `width`."""
        sizes = self.operands.first_value, int(self.operands.mixed.shape[1]), self.operands.sizes[2]
        if all(size % width == 0 for size in sizes):
            return self.operands.mixed[
                position, self.operands.first_value + self.output(ramp(x, width))
            ]
        return vector_of([self.value(position, x + lane) for lane in range(width)])

    def pace(self, position: Expr, kind: Expr | int) -> Expr:
        """The step or the decay (`kind` STEPS or DECAYS) of a position."""
        return self.operands.gate[position, kind * self.operands.sizes[0] + self.head]


def new_buffer(scope: str, *shape: int, width: int = 1) -> tirx.Buffer:
    """A buffer of float32 vectors of `width`."""
    dtype = "float32" if width == 1 else f"float32x{width}"
    return T.sblock_alloc_buffer([int64(n) for n in shape], dtype, scope=scope)
