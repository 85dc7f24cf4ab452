"""Loops, axes and constants of hand-written loop nests. Index arithmetic is int64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def named(name: str, value: Expr, body: Callable[[tirx.Var], Expr]) -> Expr:
    """body(x) of a variable x with this value.

    An expression is a tree, so passes visit a value that is used n times n times.
    """
    var = tirx.Var(name, value.ty)
    return tirx.Let(var, value, body(var))


def parts_of(number: Expr, size: Expr) -> tuple[Expr, Expr]:
    """number // size and number % size, where a task has the number of both.

    TVM puts an integer that it can compute in place of its name. For a symbolic size that is a long
    expression, repeated by every index and every bound, and by the size of every buffer that TVM
    shrinks to what is accessed. Both are then read from a buffer, which LLVM keeps in registers.
    """
    parts = number // size, number % size
    if isinstance(size, tirx.IntImm):
        return parts
    kept = T.sblock_alloc_buffer((2,), "int64")
    for at, part in enumerate(parts):
        T.buffer_store(kept, int64(part), [int64(at)])
    return kept[int64(0)], kept[int64(1)]


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
