"""One row of many: how the result of a tower becomes the row of its picture or text."""

from __future__ import annotations

from tvm import te, tirx
from tvm.relax.frontend import nn

from handglass.schedules.rule import PATTERN

from ..ops import norm as norm_op
from .layers import LayerNorm, Source, opaque

FIRST, SECOND, LAST = "first", "second", "last"


def row_of(x: nn.Tensor, which: str, norm: LayerNorm | None = None) -> Source:
    """The first, second or last row of x (n, d), normalized if there is a norm: (1, d)."""

    def compute(x: te.Tensor, *weights: te.Tensor) -> te.Tensor:
        number = {FIRST: 0, SECOND: 1, LAST: x.shape[0] - 1}[which]
        row = te.compute(
            (1, x.shape[1]), lambda i, j: x[number + i, j], name="row", attrs={PATTERN: "view"}
        )
        if norm is None:
            return row
        weight, bias = weights
        return norm_op.layer_norm(row, weight, bias, norm.eps)

    weights = () if norm is None else (norm.weight.value, norm.bias.value)
    return Source(f"{which}_row", compute, (x, *weights), last=True)


def mean_row(x: nn.Tensor, first: int = 0) -> nn.Tensor:
    """The mean of the rows of x (n, d) from number `first` on: (1, d)."""

    def compute(x: te.Tensor) -> te.Tensor:
        n, d = x.shape
        k = te.reduce_axis((0, n - first), name="k")
        total = te.compute((1, d), lambda i, j: te.sum(x[first + k, j], axis=k), name="row_sum")
        count = tirx.Cast("float32", n - first)
        return te.compute((1, d), lambda i, j: total[i, j] / count, name="row_mean")

    return opaque(compute, "mean_row", x)
