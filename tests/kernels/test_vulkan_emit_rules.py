"""The kernels of `vulkan_rule_kernels` on vulkan:0, against a few lines of numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import vulkan_rule_kernels as rules
from tvm import tirx as T
from vulkan_elementwise import apply
from vulkan_running import needs_vulkan, run
from vulkan_targets import BARE, DOT, PORTABLE

pytestmark = [pytest.mark.compiler, needs_vulkan]
THREADS = rules.THREADS
SIZE = 333


def random(seed: int = 11) -> np.random.Generator:
    return np.random.default_rng(seed)


def extremes(dtype: str, size: int, seed: int = 11) -> np.ndarray:
    """Integers of every magnitude, including the limits of the type."""
    limits = np.iinfo(dtype)
    wide = random(seed).integers(limits.min, limits.max, size, dtype, endpoint=True)
    wide >>= random(seed + 1).integers(0, limits.bits, size).astype(dtype)
    ends = [limits.min, limits.max, limits.min + 1, 0, 1]
    wide[: len(ends)] = ends
    return random(seed).permutation(wide)


def equal(actual: np.ndarray, expected: Any) -> None:
    np.testing.assert_array_equal(actual, expected)


# --- control flow ---


def test_if_in_else() -> None:
    x = random().uniform(-3, 3, THREADS).astype(np.float32)
    x[3] = np.nan
    _, y = run(rules.branches, x, np.full(THREADS, 7, np.float32), target=BARE)
    equal(y, np.where(x > 0, x * 2, np.where(x < -1, -1, 7)).astype(np.float32))


def test_loop_as_long_as_the_one_around_it_has_come() -> None:
    x = random().integers(-9, 9, (THREADS, 6)).astype(np.float32)
    _, y = run(rules.nested_loops, x, np.zeros(THREADS, np.float32), target=BARE)
    equal(y, x @ np.arange(5, -1, -1, dtype=np.float32))


def test_while_with_a_break() -> None:
    x = np.array([0, -5, 1, 2, 99, 100, 101, 128, 2**31 - 1, 12 << 20, 400, 410] * 3, np.int32)
    x = x[:THREADS]

    def halvings(rest: int) -> int:
        count = 0
        while rest > 0 and not (rest > 99 and rest % 2 == 1):
            rest, count = rest // 2, count + 1
        return count

    _, y = run(rules.halving, x, np.zeros(THREADS, np.int32), target=BARE)
    equal(y, [halvings(int(n)) for n in x])


def test_break_and_continue_of_the_inner_loop() -> None:
    x = random().integers(-4, 11, (THREADS, 16)).astype(np.float32)

    def total(row: np.ndarray) -> float:
        large = np.flatnonzero(row > 9)
        kept = row[: large[0]] if len(large) else row
        return 3 * (kept[kept >= 0].sum() + 1)

    _, y = run(rules.leaving, x, np.zeros(THREADS, np.float32), target=BARE)
    equal(y, [total(row) for row in x])


def test_a_branch_guards_a_load() -> None:
    at = random().integers(-(2**31), 2**31, THREADS).astype(np.int32)
    at[::2] = random().permutation(32)[::2]
    x = random().uniform(-1, 1, THREADS).astype(np.float32)
    *_, y = run(rules.guarded, x, at, np.zeros(THREADS, np.float32), target=BARE)
    inside = (at >= 0) & (at < 32)
    equal(y, np.where(inside, x[at % 32], -1))


def test_shared_memory() -> None:
    x = random().uniform(-1, 1, THREADS).astype(np.float32)
    _, y = run(rules.mirrored, x, np.zeros(THREADS, np.float32), target=BARE)
    equal(y, x[::-1])


# --- bytes ---


@pytest.mark.parametrize("target", [BARE, PORTABLE], ids=["bare", "portable"])
def test_bytes_as_words(target: Mapping[str, Any]) -> None:
    x = extremes("int8", 512)
    _, y = run(rules.bytes_as_words, x, np.zeros(512, np.int8), target=target)
    equal(y, x >> 1)


def test_vectors_of_bytes_that_no_word_holds() -> None:
    x = extremes("int8", 129)
    _, y = run(rules.bytes_apart, x, np.zeros(128, np.int8))
    equal(y, x[1:])


PACKED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda a, b: a + b, np.add),
    "subtract": (lambda a, b: a - b, np.subtract),
    "multiply": (lambda a, b: a * b, np.multiply),
    "and": (lambda a, b: a & b, np.bitwise_and),
    "xor": (lambda a, b: a ^ b, np.bitwise_xor),
    "maximum": (T.max, np.maximum),
    "select": (lambda a, b: T.Select(a < b, a, b - a), lambda a, b: np.where(a < b, a, b - a)),
}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("name", PACKED)
def test_packed_arithmetic_wraps(name: str, lanes: int, dtype: str) -> None:
    a, b = (extremes(dtype, THREADS * lanes, seed) for seed in (1, 2))
    compute, reference = PACKED[name]
    kernel = rules.each(compute, dtype, dtype, dtype, lanes=lanes)
    *_, y = run(kernel, a, b, np.zeros_like(a), target=BARE)
    with np.errstate(over="ignore"):
        equal(y, reference(a, b))


INTEGER_ISAS = pytest.mark.parametrize("target", [BARE, DOT], ids=["emulated", "native"])


def bytes_of_words(seed: int, dtype: str = "int8") -> np.ndarray:
    """(threads, 4); row 0 is all minimum, row 1 all maximum, row 2 alternates between them."""
    x = extremes(dtype, THREADS * 4, seed).reshape(THREADS, 4)
    limits = np.iinfo(dtype)
    x[0], x[1], x[2] = limits.min, limits.max, (limits.min, limits.max) * 2
    return x


@INTEGER_ISAS
def test_dot_product_of_signed_bytes(target: Mapping[str, Any]) -> None:
    a, b = bytes_of_words(1), bytes_of_words(2)
    b[1] = -128
    words = (np.ascontiguousarray(x).view("<i4")[:, 0] for x in (a, b))
    *_, y = run(rules.dot_of_bytes, *words, np.zeros(THREADS, np.int32), target=target)
    equal(y, (a.astype(np.int32) * b).sum(1) + 7)
    assert y[0] == 4 * 128 * 128 + 7


@INTEGER_ISAS
def test_dot_product_of_vectors_of_unsigned_bytes(target: Mapping[str, Any]) -> None:
    a, b = bytes_of_words(1, "uint8"), bytes_of_words(2, "uint8")
    flat = a.reshape(-1), b.reshape(-1)
    *_, y = run(rules.dot_of_vectors, *flat, np.zeros(THREADS, np.uint32), target=target)
    equal(y, (a.astype(np.uint32) * b).sum(1))
    assert y[1] == 4 * 255 * 255


@INTEGER_ISAS
def test_dot_product_of_signed_and_unsigned_bytes(target: Mapping[str, Any]) -> None:
    a, b = bytes_of_words(1), bytes_of_words(2, "uint8")
    b[0] = 255
    words = (np.ascontiguousarray(x).view("<i4")[:, 0] for x in (a, b))
    *_, y = run(rules.dot_of_both, *words, np.zeros(THREADS, np.int32), target=target)
    equal(y, (a.astype(np.int32) * b).sum(1))
    assert y[0] == -4 * 128 * 255


def test_wide_reinterpretations() -> None:
    x = extremes("int8", 512)
    _, y = run(rules.words_of_bytes, x, np.zeros(128, np.int32), target=BARE)
    equal(y, x.view("<i4"))
    x = extremes("int32", 64)
    _, y = run(rules.halves_of_words, x, np.zeros(128, np.float16))
    equal(y.view(np.uint16) & 0x7FFF > 0x7C00, np.isnan(x.view("<f2")))
    whole = np.isfinite(x.view("<f2"))
    equal(y[whole], x.view("<f2")[whole])
    x = extremes("uint8", 256)
    _, y = run(rules.long_of_bytes, x, np.zeros(32, np.int64))
    equal(y, x.view("<i8"))


# --- scalar arguments ---


@pytest.mark.parametrize("count", [1, 2, 16, rules.MANY, 40])
def test_scalars(count: int) -> None:
    """16 scalars fill the 128 bytes of push constants; more are passed in a uniform buffer."""
    x = random().integers(-9, 9, THREADS).astype(np.float32)
    scalars: list[Any] = [3.5, *(range(-7, -7 + count - 1))]
    scalars = [float(s) if i % 2 == 0 else s for i, s in enumerate(scalars)]
    for offset in (0, 2):  # another call passes other values
        moved = [s + offset for s in scalars]
        *_, y = run(rules.scaled(count), x, *moved, np.zeros(THREADS, np.float32), target=BARE)
        equal(y, x * np.float32(moved[0]) + np.float32(sum(moved[1:])))


# --- integers that are not 32 bits ---

NARROW_AND_WIDE = pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "int64"])


@NARROW_AND_WIDE
def test_divisions_of_negative_numbers(dtype: str) -> None:
    a, b = extremes(dtype, SIZE), extremes(dtype, SIZE, 3)
    b[(b == 0) | (b.astype(np.int64) == -1)] = 3
    if dtype != "uint16":
        b[::5] = -7
    equal(apply(T.floordiv, a, b, result=dtype), a // b)
    equal(apply(T.floormod, a, b, result=dtype), a % b)
    towards_zero = np.array([abs(int(x)) // abs(int(y)) for x, y in zip(a, b, strict=True)], object)
    quotient = (towards_zero * (np.sign(a.astype(object)) * np.sign(b.astype(object)))).astype(
        dtype
    )
    equal(apply(T.truncdiv, a, b, result=dtype), quotient)
    equal(apply(T.truncmod, a, b, result=dtype), a - quotient * b)


@pytest.mark.parametrize(
    ("dtype", "divisor"),
    [(t, d) for t in ("int16", "uint16", "int32", "int64") for d in (2, 3, 7, 64)]
    + [(t, -5) for t in ("int16", "int32", "int64")],
)
def test_divisions_by_a_constant(dtype: str, divisor: int) -> None:
    """TVM and drivers replace these divisions by shifts and products."""
    a, b = extremes(dtype, SIZE), np.array(divisor, dtype)
    constant = T.const(divisor, dtype)
    equal(apply(lambda x: T.floordiv(x, constant), a, result=dtype), a // b)
    equal(apply(lambda x: T.floormod(x, constant), a, result=dtype), a % b)


@NARROW_AND_WIDE
def test_shifts(dtype: str) -> None:
    a = extremes(dtype, SIZE)
    bits = np.iinfo(dtype).bits
    by = random().integers(0, bits, SIZE).astype(dtype)
    equal(apply(lambda x, n: x >> n, a, by, result=dtype), a >> by)
    equal(apply(lambda x, n: x << n, a, by, result=dtype), a << by)


@NARROW_AND_WIDE
def test_comparisons_and_extremes(dtype: str) -> None:
    a, b = extremes(dtype, SIZE), extremes(dtype, SIZE, 3)
    b[::7] = a[::7]
    equal(apply(lambda x, y: x < y, a, b, result="bool"), a < b)
    equal(apply(lambda x, y: x == y, a, b, result="bool"), a == b)
    equal(apply(T.min, a, b, result=dtype), np.minimum(a, b))


@pytest.mark.parametrize("source", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_integers_keep_their_sign_or_are_cut_off(source: str, target: str) -> None:
    x = extremes(source, SIZE)
    equal(apply(lambda v: T.Cast(target, v), x, result=target), x.astype(target))


# --- float16 ---


def float32_of_every_sort() -> np.ndarray:
    """float16 values, midpoints between two of them and their neighbours, values out of range,
    infinities and NaN."""
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (half[:-1] + half[1:]) / 2
    near = [np.nextafter(between, to, dtype=np.float32) for to in (0, np.inf)]
    every = np.concatenate([half, between, *near])
    odd = np.array([np.nan, np.inf, 65519.996, 65520, 1e9, 3e38, 1e-9], np.float32)
    some = np.concatenate([random().choice(every, 4000, replace=False), odd])
    return np.concatenate([some, -some])


def test_rounding_to_float16() -> None:
    """Vulkan allows rounding to the nearest, down or up. Values that float16 represents exactly are
    preserved, except that subnormals may become zero."""
    x = float32_of_every_sort()
    y = apply(lambda v: T.Cast("float16", v), x, result="float16")
    with np.errstate(over="ignore"):
        nearest = x.astype(np.float16)
    equal(np.isnan(y), np.isnan(x))
    number = ~np.isnan(x)
    equal(np.signbit(y[number]), np.signbit(x[number]))
    equal(y[np.isinf(x)], x[np.isinf(x)])
    large = number & (np.abs(x) >= 2.0**-14)
    exact = large & (nearest.astype(np.float32) == x)
    equal(y[exact], nearest[exact])
    finite = large & np.isfinite(nearest)
    with np.errstate(over="ignore"):
        step = np.abs(np.spacing(nearest[finite]).astype(np.float32))
    assert (np.abs(y[finite].astype(np.float32) - x[finite]) <= step).all()
    small = number & ~large
    assert (np.abs(y[small].astype(np.float32) - x[small]) <= 2.0**-14).all()


def test_float16_to_float32_is_exact() -> None:
    bits = np.arange(0x10000, dtype=np.uint32).astype(np.uint16)
    x = bits.view(np.float16)
    y = apply(lambda v: T.Cast("float32", v), x, result="float32")
    wanted = x.astype(np.float32)
    normal = ~((np.abs(wanted) < 2.0**-14) & (wanted != 0))
    equal(y[normal], wanted[normal])
    assert (np.abs(y[~normal] - wanted[~normal]) < 2.0**-14).all()


def test_narrow_numbers_that_no_buffer_holds() -> None:
    x = random().uniform(-99, 99, SIZE).astype(np.float32)
    half = apply(lambda v: T.Cast("float32", T.Cast("float16", v)), x, result="float32")
    np.testing.assert_allclose(half, x, rtol=2**-10)
    whole = apply(lambda v: T.Cast("float32", T.Cast("int8", v)), x, result="float32")
    equal(whole, x.astype(np.int8))
    wide = apply(lambda v: T.Cast("int32", T.Cast("int64", v)), x.astype(np.int32), result="int32")
    equal(wide, x.astype(np.int32))


@pytest.mark.parametrize("target", ["int8", "int32", "int64"])
def test_floats_are_cut_off_towards_zero(target: str) -> None:
    x = random().uniform(-120, 120, SIZE)
    for dtype in ("float32", "float16"):
        narrow = x.astype(dtype)
        equal(apply(lambda v: T.Cast(target, v), narrow, result=target), narrow.astype(target))


def test_a_guarded_division() -> None:
    a, b = extremes("int32", SIZE), extremes("int32", SIZE, 3)
    b[::3] = 0
    b[b == -1] = 5
    whole = apply(lambda x, y: T.if_then_else(y != 0, T.floordiv(x, y), -1), a, b, result="int32")
    with np.errstate(divide="ignore"):
        equal(whole, np.where(b != 0, a // np.where(b == 0, 1, b), -1))
