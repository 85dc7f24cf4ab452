"""Mathematical functions: GLSL.std.450 if GPUs implement it reliably, else compositions of it.

Every function returns a NaN for a NaN argument, except `max` and `min` (arithmetic.py).
"""

from __future__ import annotations

from collections.abc import Callable

from tvm.ir import prim

from .arithmetic import choose, compare, compute, glsl
from .conversions import convert
from .kernel import Kernel
from .opcodes import Glsl, Op
from .types import BOOL, FLOAT32, UINT32, Type, Value

Function = Callable[..., Value]
"""(kernel, type, operand, ...) -> a value of that type."""

DIRECT = {
    "exp": Glsl.Exp,
    "exp2": Glsl.Exp2,
    "log": Glsl.Log,
    "log2": Glsl.Log2,
    "sqrt": Glsl.Sqrt,
    "rsqrt": Glsl.InverseSqrt,
    "sin": Glsl.Sin,
    "cos": Glsl.Cos,
    "tan": Glsl.Tan,
    "asin": Glsl.Asin,
    "acos": Glsl.Acos,
    "atan": Glsl.Atan,
    "atan2": Glsl.Atan2,
    "sinh": Glsl.Sinh,
    "cosh": Glsl.Cosh,
    "asinh": Glsl.Asinh,
    "acosh": Glsl.Acosh,
    "atanh": Glsl.Atanh,
    "floor": Glsl.Floor,
    "ceil": Glsl.Ceil,
    "trunc": Glsl.Trunc,
    "nearbyint": Glsl.RoundEven,
    "rint": Glsl.RoundEven,
    "fma": Glsl.Fma,
}
LN_10 = 2.302585092994046
LOG2_10 = 3.321928094887362

# erf(x) = x P(x^2) / Q(x^2) for |x| <= 4; beyond, it is 1 in float32.
# Source: Eigen, generic_fast_erf_float.
ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
TANH_FLAT = 10.0  # beyond, tanh is 1 in float32; some drivers compute inf / inf


def direct(number: int) -> Function:
    def emit(k: Kernel, type: Type, *operands: Value) -> Value:
        return glsl(k, type, number, *operands)

    return emit


def absolute(k: Kernel, type: Type, x: Value) -> Value:
    if type.kind == "uint":
        return x
    return glsl(k, type, Glsl.FAbs if type.kind == "float" else Glsl.SAbs, x)


def round_away(k: Kernel, type: Type, x: Value) -> Value:
    """Round halves away from zero, as C's round; GLSL does not specify their direction."""
    whole = glsl(k, type, Glsl.Trunc, x)
    rest = absolute(k, type, compute(k, prim.Sub, type, x, whole))
    further = compute(k, prim.Add, type, whole, glsl(k, type, Glsl.FSign, x))
    return choose(k, type, compare(k, prim.GE, type, rest, k.same(type, 0.5)), further, whole)


def tanh(k: Kernel, type: Type, x: Value) -> Value:
    """tanh with |x| clamped to TANH_FLAT; the comparison preserves a NaN."""
    flat = k.same(type, TANH_FLAT)
    is_flat = compare(k, prim.GT, type, absolute(k, type, x), flat)
    end = compute(k, prim.Mul, type, glsl(k, type, Glsl.FSign, x), flat)
    return glsl(k, type, Glsl.Tanh, choose(k, type, is_flat, end, x))


def erf(k: Kernel, type: Type, x: Value) -> Value:
    """A quotient of polynomials in float32, with an error of a few units in the last place."""
    if type.bits != FLOAT32.bits:
        wider = FLOAT32.of(type.lanes)
        return convert(k, wider, type, erf(k, wider, convert(k, type, wider, x)))
    far = compare(k, prim.GT, type, absolute(k, type, x), k.same(type, 4.0))
    end = compute(k, prim.Mul, type, glsl(k, type, Glsl.FSign, x), k.same(type, 4.0))
    near = choose(k, type, far, end, x)
    square = compute(k, prim.Mul, type, near, near)
    above = compute(k, prim.Mul, type, near, polynomial(k, type, ERF_NUMERATOR, square))
    return compute(k, prim.Div, type, above, polynomial(k, type, ERF_DENOMINATOR, square))


def polynomial(k: Kernel, type: Type, coefficients: tuple[float, ...], x: Value) -> Value:
    """Horner's rule; coefficients start with the highest power."""
    result = k.same(type, coefficients[0])
    for coefficient in coefficients[1:]:
        result = glsl(k, type, Glsl.Fma, result, x, k.same(type, coefficient))
    return result


def power(k: Kernel, type: Type, x: Value, y: Value) -> Value:
    """C's pow; GLSL's Pow is defined for x > 0 only.

    x ** 0 is 1, 0 ** y is 0 or infinity, and a negative x gives a number if y is an integer, else
    a NaN.
    """
    zero, one = k.same(type, 0.0), k.same(type, 1.0)
    size = glsl(k, type, Glsl.Pow, absolute(k, type, x), y)
    at_zero = choose(k, type, compare(k, prim.GT, type, y, zero), zero, k.same(type, float("inf")))
    size = choose(k, type, compare(k, prim.EQ, type, x, zero), at_zero, size)
    half = compute(k, prim.Mul, type, y, k.same(type, 0.5))
    is_even = compare(k, prim.EQ, type, half, glsl(k, type, Glsl.Floor, half))
    is_whole = compare(k, prim.EQ, type, y, glsl(k, type, Glsl.Floor, y))
    negated = compute(k, prim.Sub, type, zero, size)
    odd = choose(k, type, is_whole, negated, k.same(type, float("nan")))
    below = choose(k, type, is_even, size, odd)
    result = choose(k, type, compare(k, prim.LT, type, x, zero), below, size)
    return choose(k, type, compare(k, prim.EQ, type, y, zero), one, result)


def sigmoid(k: Kernel, type: Type, x: Value) -> Value:
    one = k.same(type, 1.0)
    small = glsl(k, type, Glsl.Exp, compute(k, prim.Sub, type, k.same(type, 0.0), x))
    return compute(k, prim.Div, type, one, compute(k, prim.Add, type, one, small))


def exp10(k: Kernel, type: Type, x: Value) -> Value:
    return glsl(k, type, Glsl.Exp2, compute(k, prim.Mul, type, x, k.same(type, LOG2_10)))


def log10(k: Kernel, type: Type, x: Value) -> Value:
    return compute(k, prim.Div, type, glsl(k, type, Glsl.Log, x), k.same(type, LN_10))


def log1p(k: Kernel, type: Type, x: Value) -> Value:
    return glsl(k, type, Glsl.Log, compute(k, prim.Add, type, x, k.same(type, 1.0)))


def fmod(k: Kernel, type: Type, x: Value, y: Value) -> Value:
    whole = glsl(k, type, Glsl.Trunc, compute(k, prim.Div, type, x, y))
    return compute(k, prim.Sub, type, x, compute(k, prim.Mul, type, whole, y))


def copysign(k: Kernel, type: Type, x: Value, y: Value) -> Value:
    size = absolute(k, type, x)
    negated = compute(k, prim.Sub, type, k.same(type, 0.0), size)
    return choose(k, type, compare(k, prim.LT, type, y, k.same(type, 0.0)), negated, size)


def count_bits(k: Kernel, type: Type, x: Value) -> Value:
    return _of_32_bits(k, type, x, lambda form, word: k.each(form, Op.BitCount, word))


def leading_zeros(k: Kernel, type: Type, x: Value) -> Value:
    """Count leading zeros; FindUMsb is -1 if no bit is set."""

    def count(form: Type, word: Value) -> Value:
        highest = glsl(k, form, Glsl.FindUMsb, word)
        return compute(k, prim.Sub, form, k.same(form, type.bits - 1), highest)

    return _of_32_bits(k, type, x, count)


def _of_32_bits(k: Kernel, type: Type, x: Value, count: Callable[[Type, Value], Value]) -> Value:
    """Count bits in 32-bit numbers, which Vulkan requires; narrower ones are zero-extended."""
    if type.bits > UINT32.bits:
        k.fail(f"bits of {type} cannot be counted: Vulkan counts bits of 32-bit numbers only")
    form = UINT32.of(type.lanes)
    unsigned = Type("uint", type.bits, type.lanes)
    word = convert(k, unsigned, form, convert(k, type, unsigned, x))
    return convert(k, form, type, count(form, word))


def is_nan(k: Kernel, type: Type, x: Value) -> Value:
    k.claims.compute(type)
    return k.each(BOOL.of(type.lanes), Op.IsNan, x)


def is_infinite(k: Kernel, type: Type, x: Value) -> Value:
    k.claims.compute(type)
    return k.each(BOOL.of(type.lanes), Op.IsInf, x)


def is_finite(k: Kernel, type: Type, x: Value) -> Value:
    infinity = k.same(type, float("inf"))
    return compare(k, prim.LT, type, absolute(k, type, x), infinity)


FUNCTIONS: dict[str, Function] = {
    **{name: direct(number) for name, number in DIRECT.items()},
    "fabs": absolute,
    "abs": absolute,
    "round": round_away,
    "tanh": tanh,
    "erf": erf,
    "pow": power,
    "sigmoid": sigmoid,
    "exp10": exp10,
    "log10": log10,
    "log1p": log1p,
    "fmod": fmod,
    "copysign": copysign,
    "popcount": count_bits,
    "clz": leading_zeros,
    "isnan": is_nan,
    "isinf": is_infinite,
    "isfinite": is_finite,
}
"""TIR name -> function; TIR names are C names without the suffix of the float32 variants."""
