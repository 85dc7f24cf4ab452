"""Sums and maxima along the rows of a matrix, in a form that schedules can use.

On a CPU each vector lane computes a partial result, followed by one reduction across the lanes. On
a GPU it is a single reduction, as the schedule decides how many threads share a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Any

from tvm import te
from tvm.ir import Expr

from .scope import on_gpu

VECTOR_LANES = 16


def reduce_rows(
    shape: Sequence[Expr | int],
    size: int,
    term: Callable[..., Expr],
    reduce: Callable[..., Expr],
    names: tuple[str, str],
    attrs: Mapping[str, Any],
) -> te.Tensor:
    """Reduce term(*index, r) over r < size, for every index of `shape`.

    `names` are the stage names of the partial results and of the result.
    """
    partial_name, name = names
    if on_gpu():
        r = te.reduce_axis((0, size), "r")
        return te.compute(shape, lambda *i: reduce(term(*i, r), axis=r), name=name, attrs=attrs)
    lanes = gcd(size, VECTOR_LANES)
    k = te.reduce_axis((0, size // lanes), "k")
    partial = te.compute(
        (*shape, lanes),
        lambda *i: reduce(term(*i[:-1], k * lanes + i[-1]), axis=k),
        name=partial_name,
        attrs=attrs,
    )
    lane = te.reduce_axis((0, lanes), "lane")
    whole = lambda *i: reduce(partial.__getitem__((*i, lane)), axis=lane)  # noqa: E731
    return te.compute(shape, whole, name=name, attrs=attrs)
