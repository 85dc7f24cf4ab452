"""float32 to bfloat16 in integer arithmetic, as TVM's cast and AVX512-BF16 are not usable."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr


def bfloat16_bits(value: Expr) -> Expr:
    """The uint16 bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = tirx.reinterpret("uint32", value)
    u32 = lambda number: tirx.const(number, "uint32")  # noqa: E731
    sixteen = u32(16)
    nearest = bits + (u32(0x7FFF) + ((bits >> sixteen) & u32(1)))
    quiet = bits | u32(0x00400000)  # rounding could turn a NaN into an infinity
    is_nan = (bits & u32(0x7FFFFFFF)) > u32(0x7F800000)
    return (tirx.Select(is_nan, quiet, nearest) >> sixteen).astype("uint16")
