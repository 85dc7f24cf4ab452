"""RMSNorm and LayerNorm over the last axis.

Both compute in float32. RMSNorm: x / sqrt(mean(x^2) + eps) * weight (Zhang & Sennrich 2019).
"""

from tvm import te, tirx

from handglass.schedules.rule import PATTERN

from .reduce_rows import reduce_rows
from .scope import on_gpu

_NORM = {PATTERN: "norm"}
HEADS = {PATTERN: "heads"}
"""Attributes of stages with a reduction for each head of a row."""


def rms_norm(x: te.Tensor, weight: te.Tensor, eps: float) -> te.Tensor:
    """(m, d), (d,) -> (m, d)."""
    m, d = x.shape
    mean = _mean(x.shape, lambda i, j: x[i, j] * x[i, j], "square")
    return te.compute(
        (m, d),
        lambda i, j: x[i, j] * tirx.rsqrt(mean[i] + tirx.const(eps, "float32")) * weight[j],
        name="rms_norm",
        attrs=_NORM,
    )


def head_norm(
    qkv: te.Tensor, weight: te.Tensor, head_dim: int, width: int, eps: float
) -> te.Tensor:
    """qkv (s, >= width) -> (s, width): RMSNorm of each head that `weight` covers, with its weights.

    The weight is (heads * head_dim,), for the first heads; further columns are copied.
    """
    m, normed = qkv.shape[0], int(weight.shape[0])
    # A GPU has the same number of threads for every head, so it also reduces those that are copied.
    reduced = width if on_gpu() else normed
    square = lambda i, h, c: qkv[i, h * head_dim + c] * qkv[i, h * head_dim + c]  # noqa: E731
    names = ("square_lanes", "square_sum")
    total = reduce_rows((m, reduced // head_dim), head_dim, square, te.sum, names, HEADS)
    inverse, epsilon = tirx.const(1.0 / head_dim, "float32"), tirx.const(eps, "float32")

    def value(i, j):
        head, column = tirx.min(j, normed - 1) // head_dim, tirx.min(j, normed - 1)
        scaled = qkv[i, j] * tirx.rsqrt(total[i, head] * inverse + epsilon) * weight[column]
        return tirx.if_then_else(j < normed, scaled, qkv[i, j])

    return te.compute((m, width), value, name="head_norm", attrs=HEADS)


def layer_norm(x: te.Tensor, weight: te.Tensor, bias: te.Tensor, eps: float) -> te.Tensor:
    """(m, d), (d,), (d,) -> (m, d); two passes, since E[x^2] - E[x]^2 cancels in float32."""
    m, d = x.shape
    mean = _mean(x.shape, lambda i, j: x[i, j], "mean")
    centred = lambda i, j: x[i, j] - mean[i]  # noqa: E731 (one expression, used in two stages)
    variance = _mean(x.shape, lambda i, j: centred(i, j) * centred(i, j), "variance")

    def value(i, j):
        scale = tirx.rsqrt(variance[i] + tirx.const(eps, "float32"))
        return centred(i, j) * scale * weight[j] + bias[j]

    return te.compute((m, d), value, name="layer_norm", attrs=_NORM)


def _mean(shape, term, name: str) -> te.Tensor:
    """Mean of term(i, j) over j."""
    m, d = shape
    total = reduce_rows((m,), int(d), term, te.sum, (f"{name}_lanes", f"{name}_sum"), _NORM)
    inverse = tirx.const(1.0 / int(d), "float32")
    return te.compute((m,), lambda i: total[i] * inverse, name=name, attrs=_NORM)
