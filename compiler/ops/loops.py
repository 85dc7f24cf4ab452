"""Loops and axes of hand-written loop nests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from .index_type import int64


@contextmanager
def bound(extent: Expr | int, thread: str) -> Iterator[Expr]:
    """A loop bound to `thread`, e.g. `blockIdx.x` or `threadIdx.x`."""
    with T.thread_binding(int64(0), int64(extent), thread=thread) as var:
        yield var


def spatial(extent: Expr | int, binding: Expr) -> Expr:
    """A spatial axis of the enclosing block."""
    return T.axis.spatial(int64(extent), binding, "int64")


def ceil_div(value: Expr, unit: int) -> Expr:
    """value / unit, rounded up."""
    return (value + (unit - 1)) // unit
