"""Quantization of activation rows, in the kernel that computes them.

It is symmetric: code = round(x * 127 / peak), where peak is the largest magnitude of 32 consecutive
values (4-bit weights) or of the whole row (8-bit weights). A NaN or infinity propagates to the
scale and so to every output that depends on it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.integer_isa import GROUP, LIMIT, STEP, Codes
from handglass.schedules.rule import PATTERN

from .reduce_rows import reduce_rows
from .scope import on_gpu

_QUANTIZE = {PATTERN: "quantize"}
_MAGNITUDE = 0x7FFFFFFF
"""All bits of a float32 except the sign; as integers they sort by magnitude, NaN last."""
_ROUND, _ROUND_BITS = 1.5 * 2.0**23, 0x4B400000
"""A float32 whose last bit counts ones, and its bits."""


def quantize_rows(x: te.Tensor, codes: Codes, depth: int) -> list[te.Tensor]:
    """x (m, k) float32 -> codes (m, depth), scale (m, groups) and, with a zero point, offset
    (m, groups); see `Quantized`.

    Columns from k on are zero. With `codes.words`, the codes are (m, depth / 4) int32 of four bytes
    each, the first one lowest.
    """
    m, k = x.shape
    size = GROUP if codes.bits == 4 else depth
    groups = depth // size
    inside = lambda j, value, other: (  # noqa: E731
        value if int(k) == depth else tirx.if_then_else(j < k, value, other)
    )
    peak = reduce_rows(
        (m, groups),
        size,
        lambda i, g, r: inside(g * size + r, magnitude(x[i, g * size + r]), _i32(0)),
        te.max,
        ("peak_lanes", "peak"),
        _QUANTIZE,
    )
    limit = tirx.const(float(LIMIT), "float32")
    # Schedules may lose the bounds by which TVM would see that the only group is group 0.
    group_of = lambda j: j // size if groups > 1 else 0  # noqa: E731

    def code(i: Expr, j: Expr) -> Expr:
        factor = inverse(tirx.reinterpret("float32", peak[i, group_of(j)]), limit)
        return inside(j, rounded(x[i, j] * factor, limit), _i32(0)).astype(codes.activation)

    if codes.words:
        quantized = te.compute((m, depth // STEP), _word_of(code), name="codes", attrs=_QUANTIZE)
    else:
        quantized = te.compute((m, depth), code, name="codes", attrs=_QUANTIZE)
    unit = tirx.const(1.0 / codes.magnify, "float32")
    scale = te.compute(
        (m, groups),
        lambda i, g: tirx.reinterpret("float32", peak[i, g]) / limit * unit,
        name="scale",
        attrs=_QUANTIZE,
    )
    if not codes.zero:
        return [quantized, scale]
    # On a GPU, codes written by other threads cannot be read without a barrier: recompute them.
    read = code if on_gpu() else lambda i, j: quantized[i, j]
    total = reduce_rows(
        (m, groups),
        size,
        lambda i, g, r: read(i, g * size + r).astype("int32"),
        te.sum,
        ("sum_lanes", "sum"),
        _QUANTIZE,
    )
    zero = _i32(-codes.zero)
    offset = te.compute(
        (m, groups), lambda i, g: total[i, g] * zero, name="offset", attrs=_QUANTIZE
    )
    return [quantized, scale, offset]


def _word_of(code: Callable[[Expr, Expr], Expr]) -> Callable[[Expr, Expr], Expr]:
    """(row, word) -> the four codes in it."""

    def word(i: Expr, w: Expr) -> Expr:
        byte = lambda e: code(i, w * STEP + e).astype("int32") & _i32(0xFF)  # noqa: E731
        return reduce(operator.or_, (byte(e) << _i32(8 * e) for e in range(STEP)))

    return word


def magnitude(value: Expr) -> Expr:
    return tirx.reinterpret("int32", value) & _i32(_MAGNITUDE)


def inverse(peak: Expr, limit: Expr) -> Expr:
    zero = tirx.const(0.0, "float32")
    return tirx.Select(peak > zero, limit / peak, zero)


def rounded(value: Expr, limit: Expr) -> Expr:
    """Round to the nearest integer and clamp to the limit, which also maps NaN to an integer.

    TVM has no vectors of `nearbyint`. On a CPU an addition rounds, ties to even as well: it leaves
    the integer in the low bits of the sum.
    """
    clamped = tirx.max(tirx.min(value, limit), -limit)
    if on_gpu():
        return tirx.nearbyint(clamped).astype("int32")
    bits = tirx.reinterpret("int32", clamped + tirx.const(_ROUND, "float32"))
    return bits - _i32(_ROUND_BITS)


def _i32(value: int) -> tirx.IntImm:
    return tirx.const(value, "int32")
