"""Rounding to float16."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr

LARGEST = 65504.0
"""The largest float16."""
PARTS = 2048.0
"""Where the second of two float16 is in these parts of one, both have 22 bits of a float32."""
LARGEST_BITS, INFINITY_BITS, MAGNITUDE = 0x477FE000, 0x7F800000, 0x7FFFFFFF


def to_half(value: Expr) -> Expr:
    """Round to float16; large finite values are clamped, infinity and NaN are preserved."""
    magnitude = tirx.reinterpret("int32", value) & tirx.const(MAGNITUDE, "int32")
    large = tirx.all(magnitude > LARGEST_BITS, magnitude < INFINITY_BITS)
    limit = tirx.const(LARGEST, "float32")
    clamped = tirx.Select(value > tirx.const(0.0, "float32"), limit, -limit)
    return tirx.Select(large, clamped, value).astype("float16")


def lost_by_half(value: Expr) -> Expr:
    """What `to_half` loses, times PARTS, in float16. NaN for an infinity."""
    rest = value - to_half(value).astype("float32")
    return to_half(rest * tirx.const(PARTS, "float32"))
