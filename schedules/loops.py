"""Loops, axes and constants of hand-written loop nests. Index arithmetic is int64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import overload

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T


@overload
def int64(value: int) -> tirx.IntImm: ...


@overload
def int64(value: Expr | int) -> Expr: ...


def int64(value: Expr | int) -> Expr:
    """Convert to int64; constants stay constants."""
    if isinstance(value, int | tirx.IntImm):
        return tirx.IntImm("int64", int(value))
    return value.astype("int64")


def f32(value: float) -> tirx.FloatImm:
    return tirx.FloatImm("float32", value)


def spatial(extent: Expr | int, binding: Expr) -> Expr:
    """A spatial axis of the enclosing block."""
    return T.axis.spatial(int64(extent), binding, "int64")


def sequence(statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    """The statements one after the other; at least one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def ceil_div(value: Expr, unit: int) -> Expr:
    """value / unit, rounded up."""
    return (value + (unit - 1)) // unit


@contextmanager
def bound(extent: Expr | int, thread: str) -> Iterator[Expr]:
    """A loop bound to `thread`, e.g. `blockIdx.x` or `threadIdx.x`."""
    with T.thread_binding(int64(0), int64(extent), thread=thread) as var:
        yield var


@contextmanager
def grid(*extents: Expr | int) -> Iterator[tuple[Expr, ...]]:
    """Nested serial loops; yields their variables."""
    with T.grid(*map(int64, extents)) as loops:
        yield tuple(loops) if len(extents) > 1 else (loops,)
