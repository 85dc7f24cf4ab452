"""exp2 as a polynomial, which vectorizes; `tirx.exp2` is one library call per vector lane on LLVM
targets. The relative error is at most 2.5e-7 (tests/kernels/test_ops.py)."""

from tvm import tirx
from tvm.ir import Expr

from ..loops import f32, named

# 2^f for f in [-0.5, 0.5]: Taylor coefficients ln(2)^i / i!, enough terms for float32
_COEFFICIENTS = (1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158,
                 0.009618129107628477, 0.0013333558146428443, 0.0001540353039338161)  # fmt: skip
_ROUND = 1.5 * 2.0**23 + 127.0  # includes the bias of the exponent


def exp2(x: Expr) -> Expr:
    """2^x in float32; x is clamped to [-126, 126], so the result is never 0, inf or denormal.

    Adding 1.5 * 2^23 rounds to an integer in the low bits of the sum, and a shift moves it to the
    exponent. This avoids conversions and rounding instructions that a target may lack.
    """
    clamped = tirx.max(f32(-126.0), tirx.min(f32(126.0), x))  # this order propagates NaN
    return named("x", clamped, _exp2)


def _exp2(x: Expr) -> Expr:
    """2^x for x from -126 to 126."""
    bits = tirx.reinterpret("int32", x + f32(_ROUND))  # (x + c) - c would be simplified
    fraction = named("rest", x - (tirx.reinterpret("float32", bits) - f32(_ROUND)), _polynomial)
    return fraction * tirx.reinterpret("float32", bits << tirx.const(23, "int32"))


def _polynomial(rest: Expr) -> Expr:
    """2^rest for rest from -0.5 to 0.5."""
    value: Expr = f32(_COEFFICIENTS[-1])
    for coefficient in reversed(_COEFFICIENTS[:-1]):
        value = value * rest + f32(coefficient)
    return value


# 2^f for f in [0, 1]: minimax coefficients for the relative error, 7.5e-5 at most
_SHORT = (0.99992522, 0.69583353, 0.22606717, 0.07802452)
_HALF_UNIT = 2.0**-8  # of a bfloat16 from 1 to 2
VECTOR = "float32x16"


def exp2_for_bfloat16(x: Expr, instructions: bool) -> Expr:
    """16 numbers whose upper halves are the bfloat16 nearest to 2^x, for x up to 126.

    The mantissa is computed in [1, 2], where half a unit of bfloat16 is a constant that is part of
    the polynomial. 2^x is within 7.5e-5 before that rounding, a 50th of half a unit.
    `instructions`: with those of AVX-512 that separate a number from its integer part and scale by
    a power of two, which give 0 for the lowest x; otherwise x is clamped to -126.
    """
    return named("x", x, _scaled if instructions else _shifted)


def _scaled(x: Expr) -> Expr:
    rest = _avx512("reduce", x, tirx.const(_DOWN, "int32"), x)
    return _avx512("scalef", named("rest", rest, _mantissa), x, x)


def _shifted(x: Expr) -> Expr:
    clamped = tirx.max(_fill(-126.0), x)  # this order propagates NaN
    below = tirx.reinterpret("int32x16", clamped - _fill(0.5) + _fill(_ROUND))
    rest = clamped - (tirx.reinterpret(VECTOR, below) - _fill(_ROUND))
    shifted = below << tirx.Broadcast(tirx.const(23, "int32"), 16)
    return named("rest", rest, _mantissa) * tirx.reinterpret(VECTOR, shifted)


def _mantissa(rest: Expr) -> Expr:
    """2^rest for rest in [0, 1], and half a unit of bfloat16."""
    value = _fill(_SHORT[-1])
    for coefficient in (*reversed(_SHORT[1:-1]), _SHORT[0] + _HALF_UNIT):
        value = value * rest + _fill(coefficient)
    return value


def _fill(value: float) -> Expr:
    return tirx.Broadcast(tirx.const(value, "float32"), 16)


_DOWN = 0b1001  # of VREDUCEPS: toward minus infinity, without exceptions


def _avx512(name: str, *operands: Expr) -> Expr:
    """An instruction with a mask of all lanes and the current rounding mode."""
    all_lanes, current = tirx.const(-1, "int16"), tirx.const(4, "int32")
    instruction = f"llvm.x86.avx512.mask.{name}.ps.512"
    return tirx.call_llvm_pure_intrin(VECTOR, instruction, *operands, all_lanes, current)
