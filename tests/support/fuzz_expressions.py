"""Random TIR expressions as text, each with its exact values.

No operation overflows or rounds: each expression has known bounds, and for floats a known number of
binary digits after the point. The result therefore does not depend on the compiler.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Values = np.ndarray
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
DIGITS = {"float32": 24, "float16": 11}
FLOATS = tuple(DIGITS)


@dataclass(frozen=True)
class Expr:
    """An expression. `of` returns its current values, int64 or float64, one per element. The bounds
    are integers; floats have `point` binary digits after the point."""

    text: str
    dtype: str
    of: Callable[[], Values]
    low: int
    high: int
    point: int = 0

    @property
    def is_constant(self) -> bool:
        return "[" not in self.text

    @property
    def values(self) -> Values:
        return self.of()


def limits(dtype: str) -> tuple[int, int]:
    if dtype in FLOATS:
        return -(1 << DIGITS[dtype]), 1 << DIGITS[dtype]
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def fits(dtype: str, low: int, high: int, point: int = 0) -> bool:
    """Whether all such numbers are exact in `dtype`, including the exponent range of float16."""
    least, most = limits(dtype)
    if dtype in FLOATS:
        return point <= 9 and max(-low, high) << point <= most
    return point == 0 and least <= low and high <= most


@dataclass
class Maker:
    """Generates expressions; `lanes` is the width of all vectors, 1 for scalars."""

    random: random.Random
    lanes: int = 1
    leaves: list[Expr] = field(default_factory=list)
    conditions: list[Expr] = field(default_factory=list)

    # leaves

    def typed(self, dtype: str) -> str:
        return dtype if self.lanes == 1 else f"{dtype}x{self.lanes}"

    def constant(self, dtype: str, value: float | None = None) -> Expr:
        if value is None:
            value = self.random.choice([0, 1, 2, 3, 5, 7, 10, 31, 64, 100, -1, -2, -7, -100])
            if dtype.startswith("u"):
                value = abs(value)
            if dtype in FLOATS and self.random.random() < 0.5:
                value += 0.5
        point = 0 if value == int(value) else 1
        text = f"T.{dtype}({value})"
        if self.lanes > 1:
            text = f"T.Broadcast({text}, {self.lanes})"
        low, high = int(np.floor(value)), int(np.ceil(value))
        values = np.asarray(value, np.float64 if dtype in FLOATS else np.int64)
        return Expr(text, dtype, lambda: values, low, high, point)

    def leaf(self, dtype: str) -> Expr:
        known = [leaf for leaf in self.leaves if leaf.dtype == dtype]
        if known and self.random.random() < 0.75:
            return self.random.choice(known)
        return self.constant(dtype)

    # expressions

    def expression(self, dtype: str, depth: int) -> Expr:
        if depth <= 0 or self.random.random() < 0.08:
            return self.leaf(dtype)
        kinds = [*ANY, *(OF_FLOATS if dtype in FLOATS else OF_INTEGERS)]
        for _ in range(4):
            found = self.random.choice(kinds)(self, dtype, depth - 1)
            if found is not None and fits(dtype, found.low, found.high, found.point):
                return found
        return self.leaf(dtype)

    def condition(self, depth: int) -> Expr:
        choice = self.random.random()
        if self.conditions and choice < 0.15:
            return self.random.choice(self.conditions)
        if depth > 0 and choice < 0.4:
            a, b = self.condition(depth - 1), self.condition(depth - 1)
            if self.random.random() < 0.3:
                return truth(f"T.Not({a.text})", lambda: ~a.values)
            word, of = self.random.choice(CONNECTIVES)
            return truth(f"T.{word}({a.text}, {b.text})", lambda: of(a.values, b.values))
        if not self.leaves:
            return self.random.choice(self.conditions)
        a = self.random.choice(self.leaves)
        dtype = a.dtype
        if (other := self.expression(dtype, depth - 1)).text != a.text and not other.is_constant:
            a = other
        b = self.expression(dtype, depth - 1)
        sign, of = self.random.choice(COMPARISONS)
        return truth(f"({a.text} {sign} {b.text})", lambda: of(a.values, b.values))

    def clamped(self, expr: Expr, low: int, high: int) -> Expr:
        a, b = self.constant(expr.dtype, low), self.constant(expr.dtype, high)
        text = f"T.max(T.min({expr.text}, {b.text}), {a.text})"
        return Expr(
            text, expr.dtype, lambda: np.clip(expr.values, low, high), low, high, expr.point
        )


def truth(text: str, of: Callable[[], Values]) -> Expr:
    return Expr(text, "bool", of, 0, 1)


CONNECTIVES: list[tuple[str, Callable[..., Values]]] = [
    ("And", np.logical_and),
    ("Or", np.logical_or),
]
COMPARISONS: list[tuple[str, Callable[..., Values]]] = [
    ("<", np.less),
    ("<=", np.less_equal),
    (">", np.greater),
    (">=", np.greater_equal),
    ("==", np.equal),
    ("!=", np.not_equal),
]


# --- of any type ---


def add(m: Maker, dtype: str, depth: int) -> Expr:
    a, b = m.expression(dtype, depth), m.expression(dtype, depth)
    point, text = max(a.point, b.point), f"({a.text} + {b.text})"
    return both(text, dtype, np.add, a, b, a.low + b.low, a.high + b.high, point)


def subtract(m: Maker, dtype: str, depth: int) -> Expr | None:
    a, b = m.expression(dtype, depth), m.expression(dtype, depth)
    point, text = max(a.point, b.point), f"({a.text} - {b.text})"
    if dtype.startswith("u") and a.is_constant:
        return None  # TVM rejects some of these
    return both(text, dtype, np.subtract, a, b, a.low - b.high, a.high - b.low, point)


def multiply(m: Maker, dtype: str, depth: int) -> Expr:
    a, b = m.expression(dtype, depth), m.expression(dtype, depth)
    ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    text = f"({a.text} * {b.text})"
    return both(text, dtype, np.multiply, a, b, min(ends), max(ends), a.point + b.point)


def both(
    text: str, dtype: str, of: Callable, a: Expr, b: Expr, low: int, high: int, point: int = 0
) -> Expr:
    """An expression that may not fit; the caller then discards it."""
    return Expr(text, dtype, lambda: of(a.values, b.values), low, high, point)


def least(m: Maker, dtype: str, depth: int) -> Expr:
    a, b = m.expression(dtype, depth), m.expression(dtype, depth)
    word, of = m.random.choice([("min", np.minimum), ("max", np.maximum)])
    low, high = min(a.low, b.low), max(a.high, b.high)
    text = f"T.{word}({a.text}, {b.text})"
    return both(text, dtype, of, a, b, low, high, max(a.point, b.point))


def select(m: Maker, dtype: str, depth: int) -> Expr:
    c, a, b = m.condition(depth), m.expression(dtype, depth), m.expression(dtype, depth)
    word = m.random.choice(["Select", "if_then_else"]) if m.lanes == 1 else "Select"
    low, high = min(a.low, b.low), max(a.high, b.high)
    text = f"T.{word}({c.text}, {a.text}, {b.text})"
    point = max(a.point, b.point)
    return both(text, dtype, lambda x, y: np.where(c.values, x, y), a, b, low, high, point)


def absolute(m: Maker, dtype: str, depth: int) -> Expr | None:
    a = m.expression(dtype, depth)
    if dtype.startswith("u"):
        return None
    return Expr(
        f"T.abs({a.text})", dtype, lambda: np.abs(a.values), 0, max(-a.low, a.high), a.point
    )


def cast(m: Maker, dtype: str, depth: int) -> Expr | None:
    """Cast a bool, or a number that fits. TVM's bounds analysis ignores truncation of integers, and
    drops a `max(x, -100)` if x was unsigned before."""
    if m.random.random() < 0.15:
        c = m.condition(depth)
        kind = np.float64 if dtype in FLOATS else np.int64
        text = f"T.Cast('{m.typed(dtype)}', {c.text})"
        return Expr(text, dtype, lambda: c.values.astype(kind), 0, 1)
    a = m.expression(m.random.choice([d for d in INTEGERS + FLOATS if d != dtype]), depth)
    text = f"T.Cast('{m.typed(dtype)}', {a.text})"
    if dtype in FLOATS:
        return Expr(text, dtype, lambda: a.values.astype(np.float64), a.low, a.high, a.point)
    if dtype == "int64" and a.low < 0:
        return None  # see test_vulkan_fuzz.py
    return Expr(text, dtype, lambda: np.trunc(a.values).astype(np.int64), a.low, a.high)


# --- integers ---


def divide(m: Maker, dtype: str, depth: int) -> Expr:
    """Division by a constant, by a value of at least 1, or guarded against a divisor of 0."""
    a, way = m.expression(dtype, depth), m.random.randrange(3)
    if way == 0:
        b = m.constant(dtype, m.random.choice([1, 2, 3, 7, 16, 100]))
    else:
        b = m.expression(dtype, depth)
        b = m.clamped(b, 0 if dtype.startswith("u") else -100, 100)
        if way == 1 or m.lanes > 1:
            b = m.clamped(b, 1, 100)
    word, of = m.random.choice(DIVISIONS)
    size, text = max(-a.low, a.high, 100), f"T.{word}({a.text}, {b.text})"
    if way == 2 and m.lanes == 1:
        zero = f"T.{dtype}(0)"
        text = f"T.if_then_else({b.text} != {zero}, {text}, {zero})"

    def guarded(x: Values, y: Values) -> Values:
        return np.where(y == 0, 0, of(x, np.where(y == 0, 1, y)))

    low = 0 if a.low >= 0 and b.low >= 0 else -size
    return both(text, dtype, guarded, a, b, low, size)


def towards_zero(a: Values, b: Values) -> Values:
    return np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)


DIVISIONS: list[tuple[str, Callable[..., Values]]] = [
    ("floordiv", np.floor_divide),
    ("floormod", np.mod),
    ("truncdiv", towards_zero),
    ("truncmod", lambda a, b: a - towards_zero(a, b) * b),
]


def bitwise(m: Maker, dtype: str, depth: int) -> Expr:
    a, b = m.expression(dtype, depth), m.expression(dtype, depth)
    sign, of = m.random.choice([("&", np.bitwise_and), ("|", np.bitwise_or), ("^", np.bitwise_xor)])
    most = max(abs(x) for x in (a.low, a.high, b.low, b.high)).bit_length()
    low = -(1 << most) if min(a.low, b.low) < 0 else 0
    return both(f"({a.text} {sign} {b.text})", dtype, of, a, b, low, (1 << most) - 1)


def complement(m: Maker, dtype: str, depth: int) -> Expr:
    a, most = m.expression(dtype, depth), limits(dtype)[1]
    if dtype.startswith("u"):
        return Expr(f"(~{a.text})", dtype, lambda: most - a.values, most - a.high, most - a.low)
    return Expr(f"(~{a.text})", dtype, lambda: ~a.values, -1 - a.high, -1 - a.low)


def shift(m: Maker, dtype: str, depth: int) -> Expr | None:
    a, by = m.expression(dtype, depth), m.clamped(m.expression(dtype, depth), 0, 5)
    if m.random.random() < 0.6:
        low, high = a.low >> (5 if a.low > 0 else 0), max(a.high, -1)
        return both(f"({a.text} >> {by.text})", dtype, np.right_shift, a, by, low, high)
    if a.low < 0:
        return None
    text = f"({a.text} << {by.text})"
    return both(text, dtype, np.left_shift, a, by, a.low, a.high << 5)


def reinterpret(m: Maker, dtype: str, depth: int) -> Expr | None:
    other = {"int32": "uint32", "uint32": "int32", "int16": "uint16", "uint16": "int16"}
    other |= {"int8": "uint8", "uint8": "int8"}
    if dtype not in other:
        return None
    a = m.expression(other[dtype], depth)
    if a.is_constant:
        return None
    text = f"T.reinterpret('{m.typed(dtype)}', {a.text})"
    return Expr(text, dtype, lambda: a.values.astype(dtype).astype(np.int64), *limits(dtype))


# --- floats ---


def rounded(m: Maker, dtype: str, depth: int) -> Expr:
    a = m.expression(dtype, depth)
    word, of = m.random.choice([("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc)])
    return Expr(f"T.{word}({a.text})", dtype, lambda: of(a.values), a.low - 1, a.high + 1)


def halved(m: Maker, dtype: str, depth: int) -> Expr:
    a = m.expression(dtype, depth)
    sign, by = m.random.choice([("/", 2.0), ("*", 0.5), ("/", 4.0)])
    divisor = max(by, 2.0)
    text = f"({a.text} {sign} {m.constant(dtype, by).text})"
    return Expr(text, dtype, lambda: a.values / divisor, a.low, a.high, a.point + 2)


def fraction(m: Maker, dtype: str, depth: int) -> Expr:
    """Clamp and floor a value, which bounds its range and its digits."""
    a = m.expression(dtype, depth)
    near = m.clamped(a, -20, 20)
    text = f"T.floor({near.text} * {m.constant(dtype, 2.0).text})"
    return Expr(text, dtype, lambda: np.floor(near.values * 2), -40, 40)


ANY: list[Callable[..., Expr | None]] = [add, subtract, multiply, least, select, absolute, cast]
OF_INTEGERS: list[Callable[..., Expr | None]] = [divide, bitwise, complement, shift, reinterpret]
OF_FLOATS: list[Callable[..., Expr | None]] = [rounded, halved, fraction]
