"""Loops of nests that are written out for workgroups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from .attention_tiles import int64


@contextmanager
def bound(extent: Expr | int, thread: str) -> Iterator[Expr]:
    """A loop onto `blockIdx.x`, `threadIdx.x`, ... ."""
    with T.thread_binding(int64(0), int64(extent), thread=thread) as var:
        yield var


def spatial(extent: Expr | int, binding: Expr) -> Expr:
    """An axis of the block around."""
    return T.axis.spatial(int64(extent), binding, "int64")


def ceil_div(value: Expr, unit: int) -> Expr:
    """value / unit, rounded up."""
    return (value + (unit - 1)) // unit
