"""Self-attention within windows of a few consecutive rows.

A window is too small for the tiles of `attention`. Scores of all heads are adjacent, so that the
softmax has one head per vector lane; the products have one column per lane.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from math import gcd

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.rule import PATTERN

from .exponential import LOG2_E, exp2
from .reduce_rows import VECTOR_LANES, reduce_rows
from .scope import on_gpu


def window_attention(qkv: te.Tensor, heads: int) -> te.Tensor:
    """softmax(q k^T / sqrt(head_dim)) v within each window.

    qkv (windows, rows, 3 d), as q, k and v -> (windows, rows, heads, head_dim / lanes, lanes).
    """
    windows, rows, d = qkv.shape[0], int(qkv.shape[1]), int(qkv.shape[2]) // 3
    head_dim = d // heads
    # A CPU computes all stages of a window together. A GPU has two kernels, as the softmax is small
    # and computed again for each output.
    attrs = {} if on_gpu() else {PATTERN: "windows"}

    def part(number: int, i: Expr, row: Expr, head: Expr, e: Expr) -> Expr:
        return qkv[i, row, number * d + head * head_dim + e]

    scores = reduce_rows(
        (windows, rows, rows, heads),
        head_dim,
        lambda i, row, other, h, e: part(0, i, row, h, e) * part(1, i, other, h, e),
        te.sum,
        ("score_lanes", "scores"),
        attrs,
    )
    weights = _softmax(scores, head_dim**-0.5, attrs)
    lanes = gcd(head_dim, VECTOR_LANES)
    other = te.reduce_axis((0, rows), "other")

    def mixed(i: Expr, row: Expr, h: Expr, block: Expr, lane: Expr) -> Expr:
        value = part(2, i, other, h, block * lanes + lane)
        return te.sum(weights[i, row, other, h] * value, axis=other)

    shape = (windows, rows, heads, head_dim // lanes, lanes)
    return te.compute(shape, mixed, name="window_attention", attrs=attrs)


def _softmax(scores: te.Tensor, scale: float, attrs: dict[str, str]) -> te.Tensor:
    """softmax(scale * scores) over the third axis of (windows, rows, rows, heads)."""
    factor, one = (tirx.const(value, "float32") for value in (scale * LOG2_E, 1.0))

    def all_of(tensor: te.Tensor, combine: Callable, i: Expr, row: Expr, head: Expr) -> Expr:
        return reduce(combine, (tensor[i, row, k, head] for k in range(int(tensor.shape[2]))))

    def power(i: Expr, row: Expr, other: Expr, head: Expr) -> Expr:
        largest = all_of(scores, tirx.max, i, row, head)
        return exp2((scores[i, row, other, head] - largest) * factor)

    def weight(i: Expr, row: Expr, other: Expr, head: Expr) -> Expr:
        total = all_of(powers, operator.add, i, row, head)
        return powers[i, row, other, head] * (one / total)

    powers = te.compute(scores.shape, power, name="powers", attrs=attrs)
    return te.compute(scores.shape, weight, name="weights", attrs=attrs)
