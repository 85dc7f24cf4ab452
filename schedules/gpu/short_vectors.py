"""Vectors of a few rows in hand-written nests; a vector of one row is a scalar."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr

from .. import loops


def vector_dtype(dtype: str, width: int) -> str:
    """The dtype of a vector of `width` elements."""
    return dtype if width == 1 else f"{dtype}x{width}"


def broadcast(value: Expr, width: int) -> Expr:
    """Broadcast a scalar to all rows; a vector is returned unchanged."""
    if width == 1 or "x" in str(value.ty.dtype):
        return value
    return tirx.Broadcast(value, width)


def ramp(first: Expr, width: int) -> Expr:
    """first, first + 1, ... ."""
    return first if width == 1 else tirx.Ramp(first, tirx.const(1, str(first.ty.dtype)), width)


def vector_of(values: Sequence[Expr]) -> Expr:
    """A vector of scalars."""
    if len(values) == 1:
        return values[0]
    return tirx.Shuffle(list(values), [tirx.const(i, "int32") for i in range(len(values))])


def element(vector: Expr, number: int, width: int) -> Expr:
    """Element `number` of a vector."""
    return vector if width == 1 else tirx.Shuffle([vector], [tirx.const(number, "int32")])


def f32(value: float, width: int = 1) -> Expr:
    """A float32 constant for every row."""
    return broadcast(loops.f32(value), width)
