"""Vectors of a few rows, in nests that are written out: a vector of one is a plain number."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr


def packed(dtype: str, width: int) -> str:
    """The type of `width` numbers side by side."""
    return dtype if width == 1 else f"{dtype}x{width}"


def every(value: Expr, width: int) -> Expr:
    """The same value for all rows; what is a vector already stays one."""
    if width == 1 or "x" in str(value.ty.dtype):
        return value
    return tirx.Broadcast(value, width)


def numbered(first: Expr, width: int) -> Expr:
    """first, first + 1, ... ."""
    return first if width == 1 else tirx.Ramp(first, tirx.const(1, str(first.ty.dtype)), width)


def together(values: Sequence[Expr]) -> Expr:
    """One vector of single numbers."""
    if len(values) == 1:
        return values[0]
    return tirx.Shuffle(list(values), [tirx.const(i, "int32") for i in range(len(values))])


def lane(vector: Expr, number: int, width: int) -> Expr:
    """One number of a vector."""
    return vector if width == 1 else tirx.Shuffle([vector], [tirx.const(number, "int32")])


def f32(value: float, width: int = 1) -> Expr:
    """A constant, for every row."""
    return every(tirx.FloatImm("float32", value), width)
