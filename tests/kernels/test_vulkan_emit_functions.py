"""Arithmetic and mathematical functions as SPIR-V, on vulkan:0 against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import tirx as T
from vulkan_elementwise import apply
from vulkan_running import needs_vulkan

pytestmark = pytest.mark.compiler
SIZE = 333
RELATIVE = {"float32": 3e-6, "float16": 4e-3}

FLOATS: dict[str, tuple[Callable[..., Any], Callable[..., Any], float, float]] = {
    "exp": (T.exp, np.exp, -5, 5),
    "exp2": (T.exp2, np.exp2, -5, 5),
    "log": (T.log, np.log, 0.1, 9),
    "log2": (T.log2, np.log2, 0.1, 9),
    "sqrt": (T.sqrt, np.sqrt, 0, 9),
    "rsqrt": (T.rsqrt, lambda x: 1 / np.sqrt(x), 0.1, 9),
    "sin": (T.sin, np.sin, -3, 3),
    "cos": (T.cos, np.cos, -3, 3),
    "tanh": (T.tanh, np.tanh, -100, 100),
    "tanh near 0": (T.tanh, np.tanh, -1, 1),
    "sigmoid": (T.sigmoid, lambda x: 1 / (1 + np.exp(-x)), -8, 8),
    "floor": (T.floor, np.floor, -5, 5),
    "ceil": (T.ceil, np.ceil, -5, 5),
    "trunc": (T.trunc, np.trunc, -5, 5),
    "abs": (T.abs, np.abs, -5, 5),
    "select": (lambda x: T.Select(x > 0, x, x * 2), lambda x: np.where(x > 0, x, x * 2), -1, 1),
}


def draw(low: float, high: float, dtype: str, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).uniform(low, high, size).astype(dtype)


@needs_vulkan
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", FLOATS)
def test_functions_of_floats(name: str, dtype: str) -> None:
    emitted, reference, low, high = FLOATS[name]
    x = draw(low, high, dtype)
    wanted = reference(x.astype("float64"))
    most = RELATIVE[dtype]
    np.testing.assert_allclose(apply(emitted, x, result=dtype), wanted, rtol=most, atol=most)


@needs_vulkan
def test_erf() -> None:
    from math import erf

    x = np.concatenate([draw(-6, 6, "float32"), draw(-1e-3, 1e-3, "float32")])
    wanted = np.vectorize(erf)(x.astype("float64"))
    np.testing.assert_allclose(apply(T.erf, x, result="float32"), wanted, rtol=1e-6, atol=1e-12)
    half = x.astype("float16")
    wanted = np.vectorize(erf)(half.astype("float64"))
    np.testing.assert_allclose(apply(T.erf, half, result="float16"), wanted, rtol=1e-3, atol=1e-6)


@needs_vulkan
def test_halves_are_rounded_to_even_and_as_c_does() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388609.0, -3.2, 3.7], "float32")
    np.testing.assert_array_equal(apply(T.round, x, result="float32"), np.rint(x))
    away = [-3, -2, -1, 1, 2, 3, 0, 8388609, -3, 4]

    def roundf(value: Any) -> Any:
        return T.call_pure_extern("float32", "roundf", value)

    np.testing.assert_array_equal(apply(roundf, x, result="float32"), away)


@needs_vulkan
def test_power_knows_zero_and_negative_numbers() -> None:
    x = np.array([0, 0, 2, -2, -2, -2, 3, 1.5, 0, -0.5], "float32")
    y = np.array([0, 2, 0.5, 3, 2, 0.5, -2, 7.25, -1, 0], "float32")
    with np.errstate(all="ignore"):
        wanted = np.power(x, y)
    np.testing.assert_allclose(apply(T.pow, x, y, result="float32"), wanted, rtol=1e-5)


@needs_vulkan
def test_what_is_not_a_number() -> None:
    x = np.array([1, np.nan, np.inf, -np.inf, 0], "float32")
    np.testing.assert_array_equal(apply(T.isnan, x, result="bool"), np.isnan(x))
    np.testing.assert_array_equal(apply(T.isinf, x, result="bool"), np.isinf(x))
    np.testing.assert_array_equal(apply(T.isfinite, x, result="bool"), np.isfinite(x))
    for function in (T.exp, T.tanh, T.erf, T.sqrt, T.round):
        assert np.isnan(apply(function, x, result="float32")[1])


@needs_vulkan
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), -0.0])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_constants_keep_their_bits(value: float, dtype: str) -> None:
    made = apply(
        lambda x: T.Select(x > 0, T.Cast(dtype, T.FloatImm("float32", value)), x),
        np.ones(3, dtype),
        result=dtype,
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(made, np.full(3, value, dtype))


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: (
        (np if isinstance(a, np.ndarray) else T).max(a, b)
        if not isinstance(a, np.ndarray)
        else np.maximum(a, b)
    ),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}


@needs_vulkan
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_integers_wrap(name: str, dtype: str) -> None:
    random, limits = np.random.default_rng(3), np.iinfo(dtype)
    a, b = (random.integers(limits.min, limits.max, SIZE, dtype, endpoint=True) for _ in "ab")
    operation = OPERATIONS[name]
    with np.errstate(over="ignore"):
        wanted = operation(a, b)
    np.testing.assert_array_equal(apply(operation, a, b, result=dtype), wanted)


@needs_vulkan
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint32"])
def test_division_rounds_as_asked(dtype: str) -> None:
    random, limits = np.random.default_rng(5), np.iinfo(dtype)
    a = random.integers(limits.min // 2, limits.max // 2, SIZE).astype(dtype)
    b = random.integers(1, 100, SIZE).astype(dtype) * (-1) ** (np.arange(SIZE) * (limits.min < 0))
    b = b.astype(dtype)
    exact = a.astype("int64"), b.astype("int64")
    floor = np.floor_divide(*exact), np.mod(*exact)
    truncated = np.sign(exact[0]) * np.sign(exact[1]) * (abs(exact[0]) // abs(exact[1]))
    rest = exact[0] - truncated * exact[1]
    for function, wanted in (
        (T.floordiv, floor[0]),
        (T.floormod, floor[1]),
        (T.truncdiv, truncated),
        (T.truncmod, rest),
    ):
        np.testing.assert_array_equal(apply(function, a, b, result=dtype), wanted)


@needs_vulkan
def test_shifts_and_bits() -> None:
    random = np.random.default_rng(5)
    a = random.integers(-(2**31), 2**31, SIZE).astype("int32")
    b = random.integers(0, 32, SIZE).astype("int32")
    unsigned = a.view("uint32")
    np.testing.assert_array_equal(apply(lambda x, y: x >> y, a, b, result="int32"), a >> b)
    np.testing.assert_array_equal(apply(lambda x, y: x << y, a, b, result="int32"), a << b)
    shifted = apply(lambda x, y: x >> T.Cast("uint32", y), unsigned, b, result="uint32")
    np.testing.assert_array_equal(shifted, unsigned >> b.view("uint32"))
    np.testing.assert_array_equal(apply(lambda x: ~x, a, result="int32"), ~a)
    counted = [bin(x).count("1") for x in unsigned]
    np.testing.assert_array_equal(apply(T.popcount, a, result="int32"), counted)
    unsigned[0] = 0
    zeros = [32 - int(x).bit_length() for x in unsigned]
    np.testing.assert_array_equal(apply(T.clz, unsigned.view("int32"), result="int32"), zeros)


@needs_vulkan
@pytest.mark.parametrize(
    "source", ["float32", "float16", "int32", "int8", "uint8", "bool", "int64"]
)
@pytest.mark.parametrize("target", ["float32", "float16", "int32", "int8", "uint16", "bool"])
def test_casts(source: str, target: str) -> None:
    x = np.random.default_rng(1).integers(0, 100, SIZE).astype(source)
    wanted = x.astype(target)
    cast = apply(lambda v: T.Cast(target, v), x, result=target)
    np.testing.assert_array_equal(cast, wanted)
