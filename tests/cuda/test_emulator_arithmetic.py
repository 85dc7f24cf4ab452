"""Arithmetic of the PTX emulator against the PTX manual, written in numpy."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="the reference of bf16")
from ptx_kernels import DTYPES, Case, check_cases, one_nan, to_half

pytestmark = pytest.mark.cuda

SIZES = (16, 32, 64)


def wrapped(function: Callable) -> Callable:
    """Exact integers, cut off to the type of the first input."""

    def reference(*arrays: np.ndarray) -> np.ndarray:
        exact = np.array([function(*map(int, row)) for row in zip(*arrays, strict=True)], object)
        return cut(exact, arrays[0].dtype)

    return reference


def cut(exact: np.ndarray, dtype: np.dtype) -> np.ndarray:
    mask = (1 << 8 * dtype.itemsize) - 1
    return np.array([int(x) & mask for x in exact], f"u{dtype.itemsize}").view(dtype)


def quotient(a: int, b: int) -> int:
    """Towards zero; all ones for a division by zero, as hardware does."""
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    return a if b == 0 else a - b * quotient(a, b)


def by_sign(a: np.ndarray, b: np.ndarray, control: np.ndarray) -> np.ndarray:
    return np.where(control >= 0, a, b)


def integers(t: str) -> list[Case]:
    bits = int(t[1:])
    two, three = (t, t), (t, t, t)
    both = (t, t, "pred")
    return [
        Case(f"add.{t} D, A, B;", two, t, wrapped(lambda a, b: a + b)),
        Case(f"sub.{t} D, A, B;", two, t, wrapped(lambda a, b: a - b)),
        Case(f"mul.lo.{t} D, A, B;", two, t, wrapped(lambda a, b: a * b)),
        Case(f"mul.hi.{t} D, A, B;", two, t, wrapped(lambda a, b: a * b >> bits)),
        Case(f"mad.lo.{t} D, A, B, C;", three, t, wrapped(lambda a, b, c: a * b + c)),
        Case(f"mad.hi.{t} D, A, B, C;", three, t, wrapped(lambda a, b, c: (a * b >> bits) + c)),
        Case(f"div.{t} D, A, B;", two, t, wrapped(quotient)),
        Case(f"rem.{t} D, A, B;", two, t, wrapped(remainder)),
        Case(f"min.{t} D, A, B;", two, t, wrapped(min)),
        Case(f"max.{t} D, A, B;", two, t, wrapped(max)),
        Case(f"setp.lt.{t} D, A, B;", two, "pred", lambda a, b: a < b),
        Case(f"setp.ge.and.{t} D|P, A, B, C;", both, "pred", lambda a, b, c: (a >= b) & c),
        Case(
            f"setp.ne.or.{t} P|D, A, B, !C;",
            (t, t, "pred"),
            "pred",
            lambda a, b, c: (a == b) | ~c & 1,
        ),
        Case(f"selp.{t} D, A, B, C;", (t, t, "pred"), t, lambda a, b, c: np.where(c, a, b)),
        Case(f"slct.{t}.s32 D, A, B, C;", (t, t, "s32"), t, by_sign),
    ]


def wide(t: str) -> list[Case]:
    result = f"{t[0]}{2 * int(t[1:])}"
    dtype = DTYPES[result]
    return [
        Case(f"mul.wide.{t} D, A, B;", (t, t), result, lambda a, b: a.astype(dtype) * b),
        Case(
            f"mad.wide.{t} D, A, B, C;",
            (t, t, result),
            result,
            lambda a, b, c: a.astype(dtype) * b + c,
        ),
    ]


def saturated(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -(2**31), 2**31 - 1)


def signed(t: str) -> list[Case]:
    return [
        Case(f"neg.{t} D, A;", (t,), t, wrapped(lambda a: -a)),
        Case(f"abs.{t} D, A;", (t,), t, wrapped(abs)),
    ]


def test_integers() -> None:
    types = [f"{sign}{size}" for sign in "us" for size in SIZES]
    cases = [case for t in types for case in integers(t)]
    cases += [case for size in SIZES for case in signed(f"s{size}")]
    cases += [case for t in ("u16", "s16", "u32", "s32") for case in wide(t)]
    s32 = ("s32", "s32")
    cases += [
        Case("add.sat.s32 D, A, B;", s32, "s32", lambda a, b: saturated(a.astype(int) + b)),
        Case("sub.sat.s32 D, A, B;", s32, "s32", lambda a, b: saturated(a.astype(int) - b)),
    ]
    check_cases(cases)


def smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """-0 below +0; NaN only if both are."""
    zeros = np.where(np.signbit(a), a, b)
    return np.where((a == 0) & (b == 0), zeros, np.fmin(a, b))


def smaller_or_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(a) | np.isnan(b), np.float32(np.nan), smaller(a, b))


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return -smaller(-a, -b)


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a * b + c


def flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), x)


def with_flush(function: Callable) -> Callable:
    return lambda *arrays: flushed(function(*map(flushed, arrays)))


def compared(t: str) -> list[Case]:
    ordered = lambda a, b: ~(np.isnan(a) | np.isnan(b))  # noqa: E731
    tests: dict[str, Callable] = {
        "eq": np.equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "neu": np.not_equal,
        "num": ordered,
        "ne": lambda a, b: (a != b) & ordered(a, b),
        "nan": lambda a, b: ~ordered(a, b),
        "equ": lambda a, b: (a == b) | ~ordered(a, b),
        "ltu": lambda a, b: (a < b) | ~ordered(a, b),
        "leu": lambda a, b: (a <= b) | ~ordered(a, b),
        "gtu": lambda a, b: (a > b) | ~ordered(a, b),
        "geu": lambda a, b: (a >= b) | ~ordered(a, b),
    }
    return [Case(f"setp.{n}.{t} D, A, B;", (t, t), "pred", f) for n, f in tests.items()]


def exact_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The product of two f32 is exact in long double, its sum nearly so."""
    return (a.astype(np.longdouble) * b + c).astype(np.float32)


def reals(t: str) -> list[Case]:
    two = (t, t)
    return [
        Case(f"add.rn.{t} D, A, B;", two, t, np.add),
        Case(f"sub.{t} D, A, B;", two, t, np.subtract),
        Case(f"mul.{t} D, A, B;", two, t, np.multiply),
        Case(f"div.rn.{t} D, A, B;", two, t, np.divide),
        Case(f"sqrt.rn.{t} D, A;", (t,), t, np.sqrt),
        Case(f"rcp.rn.{t} D, A;", (t,), t, lambda a: 1 / a),
        Case(f"neg.{t} D, A;", (t,), t, np.negative),
        Case(f"abs.{t} D, A;", (t,), t, np.abs),
        Case(f"min.{t} D, A, B;", two, t, smaller),
        Case(f"max.{t} D, A, B;", two, t, larger),
        Case(f"copysign.{t} D, A, B;", two, t, lambda a, b: np.copysign(b, a)),
        Case(f"selp.{t} D, A, B, C;", (t, t, "pred"), t, lambda a, b, c: np.where(c, a, b)),
        *compared(t),
    ]


def single_only() -> list[Case]:
    f32, two = ("f32",), ("f32", "f32")
    clip = lambda x: np.where(x > 0, np.minimum(x, 1), 0)  # noqa: E731
    return [
        Case("fma.rn.f32 D, A, B, C;", ("f32",) * 3, "f32", exact_fma),
        Case("mad.rn.ftz.f32 D, A, B, C;", ("f32",) * 3, "f32", with_flush(exact_fma)),
        Case("add.ftz.f32 D, A, B;", two, "f32", with_flush(np.add)),
        Case("mul.ftz.f32 D, A, B;", two, "f32", with_flush(np.multiply)),
        Case("add.sat.f32 D, A, B;", two, "f32", lambda a, b: clip(a + b)),
        Case("min.NaN.f32 D, A, B;", two, "f32", smaller_or_nan),
        Case("div.full.f32 D, A, B;", two, "f32", np.divide),
        Case("div.approx.f32 D, A, B;", two, "f32", np.divide),
        Case("ex2.approx.f32 D, A;", f32, "f32", np.exp2, 2),
        Case("ex2.approx.ftz.f32 D, A;", f32, "f32", with_flush(np.exp2), 2),
        Case("lg2.approx.f32 D, A;", f32, "f32", np.log2, 2),
        Case("sin.approx.f32 D, A;", f32, "f32", np.sin, 2),
        Case("cos.approx.f32 D, A;", f32, "f32", np.cos, 2),
        Case("tanh.approx.f32 D, A;", f32, "f32", np.tanh, 2),
        Case("rsqrt.approx.f32 D, A;", f32, "f32", lambda a: 1 / np.sqrt(a.astype(float)), 2),
        Case("rcp.approx.ftz.f32 D, A;", f32, "f32", with_flush(lambda a: 1 / a)),
        Case("set.gt.u32.f32 D, A, B;", two, "u32", lambda a, b: np.where(a > b, 2**32 - 1, 0)),
        Case("set.gt.f32.f32 D, A, B;", two, "f32", lambda a, b: a > b),
        Case(
            "slct.f32.f32 D, A, B, C;", ("f32",) * 3, "f32", lambda a, b, c: np.where(c >= 0, a, b)
        ),
    ]


def between(mode: str, exact: Fraction, nearest: float) -> np.float32:
    """The f32 on the side of the exact value that the mode says; `nearest` is one of the two."""
    near = np.float32(nearest)
    if np.isfinite(near) and Fraction(float(near)) == exact:
        return near
    up = mode == "p" or (mode == "z" and exact < 0)
    is_up = Fraction(float(near)) > exact if np.isfinite(near) else near > 0
    return near if up == is_up else np.nextafter(near, np.float32(np.inf if up else -np.inf))


def directed(mode: str, function: Callable) -> Callable:
    """By exact fractions, where they are; what is infinite or not a number stays that."""

    def row(*numbers: np.float32) -> np.float32:
        plain = np.float32(function(*(np.longdouble(n) for n in numbers)))
        if not np.isfinite(numbers).all():
            return plain
        exact = function(*(Fraction(float(n)) for n in numbers))
        return between(mode, exact, float(plain)) if exact else plain

    return lambda *arrays: np.array([row(*r) for r in zip(*arrays, strict=True)], np.float32)


def directed_cases() -> list[Case]:
    found = []
    for mode in "zmp":
        two, three = ("f32", "f32"), ("f32",) * 3
        found += [
            Case(f"add.r{mode}.f32 D, A, B;", two, "f32", directed(mode, lambda a, b: a + b)),
            Case(f"sub.r{mode}.f32 D, A, B;", two, "f32", directed(mode, lambda a, b: a - b)),
            Case(f"mul.r{mode}.f32 D, A, B;", two, "f32", directed(mode, lambda a, b: a * b)),
            Case(f"fma.r{mode}.f32 D, A, B, C;", three, "f32", directed(mode, fused)),
        ]
    return found


def test_reals() -> None:
    check_cases([*reals("f32"), *reals("f64"), *single_only(), *directed_cases()])


def half(t: str, function: Callable) -> Callable:
    """Computed in f64, where one operation on halves is exact or nearly so, and rounded once."""
    return lambda *arrays: to_half(function(*(a.astype(float) for a in arrays)), t)


def halves(t: str) -> list[Case]:
    one, two, three = (t,), (t, t), (t, t, t)
    relu = lambda x: np.where(x < 0, 0, x)  # noqa: E731
    return [
        Case(f"add.{t} D, A, B;", two, t, half(t, np.add)),
        Case(f"sub.rn.{t} D, A, B;", two, t, half(t, np.subtract)),
        Case(f"mul.{t} D, A, B;", two, t, half(t, np.multiply)),
        Case(f"fma.rn.{t} D, A, B, C;", three, t, half(t, fused)),
        Case(f"fma.rn.relu.{t} D, A, B, C;", three, t, half(t, lambda a, b, c: relu(a * b + c))),
        Case(f"neg.{t} D, A;", one, t, half(t, np.negative)),
        Case(f"abs.{t} D, A;", one, t, half(t, np.abs)),
        Case(f"min.{t} D, A, B;", two, t, half(t, smaller)),
        Case(f"max.{t} D, A, B;", two, t, half(t, larger)),
        Case(f"setp.gt.{t} D, A, B;", two, "pred", np.greater),
        Case(f"setp.neu.{t} D, A, B;", two, "pred", np.not_equal),
        Case("mov.b16 D, A;", one, t, lambda a: a),
    ]


def of_both(t: str, function: Callable) -> Callable:
    """A function of halves on packed ones."""

    def reference(*arrays: np.ndarray) -> np.ndarray:
        parts = [np.ascontiguousarray(a).view(DTYPES[t]).reshape(-1, 2) for a in arrays]
        found = half(t, function)(*parts)
        return (
            np.where(np.isnan(found), NAN, np.ascontiguousarray(found).view("u2"))
            .astype("u2")
            .view("u4")
            .reshape(-1)
        )

    return reference


NAN = 0x7FFF


def packed(t: str) -> list[Case]:
    """Results are compared by their bits, with every NaN replaced by one."""
    word = ("u32",)
    unify = one_nan(t)
    return [
        Case(f"add.{t}x2 D, A, B; {unify}", word * 2, "u32", of_both(t, np.add)),
        Case(f"sub.{t}x2 D, A, B; {unify}", word * 2, "u32", of_both(t, np.subtract)),
        Case(f"mul.{t}x2 D, A, B; {unify}", word * 2, "u32", of_both(t, np.multiply)),
        Case(
            f"fma.rn.{t}x2 D, A, B, C; {unify}",
            word * 3,
            "u32",
            of_both(t, lambda a, b, c: a * b + c),
        ),
        Case(
            f"max.{t}x2 D, A, B; {unify}",
            word * 2,
            "u32",
            of_both(t, larger),
        ),
        Case(f"neg.{t}x2 D, A; {unify}", word, "u32", of_both(t, np.negative)),
    ]


def test_halves() -> None:
    check_cases([case for t in ("f16", "bf16") for case in (*halves(t), *packed(t))])
