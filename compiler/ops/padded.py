"""Operands of a GPU matmul, padded with zeros to whole tiles.

The conditions of the padding are part of the copies of tiles to shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .index_type import int64


def is_one_row(m: Expr) -> bool:
    """Whether m is the constant 1."""
    return isinstance(m, tirx.IntImm) and int(m) == 1


def whole_tiles(m: Expr, rows: int) -> Expr:
    """Round m up to whole tiles of rows; one row stays one."""
    if is_one_row(m):
        return m
    return (m + (rows - 1)) // rows * rows


def whole_columns(out_features: int, m: Expr, columns: int) -> int:
    """Round `out_features` up to whole panels for one row, to whole tiles for many rows."""
    return round_up(out_features, LANES if is_one_row(m) else columns)


def padded_rows(
    x: te.Tensor,
    shape: tuple[Expr, int],
    name: str = "rows",
    convert: Callable[[Expr], Expr] = lambda value: value,
) -> te.Tensor:
    """x (m, k), converted elementwise and padded with zeros to `shape`."""

    def value(i: Expr, j: Expr) -> Expr:
        return where(inside([i, j], x.shape, shape), convert(x[i, j]))

    return te.compute((shape[0], int64(shape[1])), value, name=name, attrs={PATTERN: "rows"})


def padded_columns(
    read: Callable[..., Expr],
    unpadded: Sequence[int],
    shape: Sequence[int],
    name: str,
    inner: Sequence[int] = (),
) -> te.Tensor:
    """(inputs, *inner, columns): `read` at (panel, input, *inner, lane), padded with zeros.

    `unpadded` and `shape` are (inputs, columns) without and with padding. Unlike in the panels, all
    columns of a tile are contiguous, so threads that share a row of it load from different banks.
    """

    def value(k: Expr, *rest: Expr) -> Expr:
        *middle, j = rest
        number = read(j // LANES, k, *middle, j % LANES)
        return where(inside([k, j], unpadded, shape), number)

    whole = tuple(map(int64, (shape[0], *inner, shape[1])))
    return te.compute(whole, value, name=name, attrs={PATTERN: name})


def inside(place: Sequence[Expr], unpadded: Sequence, padded: Sequence) -> list[Expr]:
    """The conditions for the index `place` to be inside `unpadded`, the shape before padding."""
    sizes = zip(place, unpadded, padded, strict=False)
    return [at < size for at, size, whole in sizes if not _equal(size, whole)]


def _equal(size: Expr | int, whole: Expr | int) -> bool:
    known = all(isinstance(n, int | tirx.IntImm) for n in (size, whole))
    return int(size) == int(whole) if known else size is whole


def where(conditions: list[Expr], value: Expr) -> Expr:
    """The value if all conditions hold, else zero."""
    if not conditions:
        return value
    value = value.asobject() if isinstance(value, te.TensorSlice) else value
    return tirx.if_then_else(tirx.all(*conditions), value, tirx.const(0, value.ty.dtype))


def round_up(value: int, unit: int) -> int:
    """Round value up to a multiple of unit."""
    return -(-value // unit) * unit
