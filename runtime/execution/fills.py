"""The contents of test tensors: random numbers or a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError

from .fields import Fields
from .portable_random import PortableRandom

_LARGEST = 1e30  # within float32 and bfloat16 even for the tail of a normal distribution


Random = np.random.Generator | PortableRandom
"""A source of random numbers: numpy's, or one that is reproducible across numpy releases."""


class Fill(Protocol):
    def draw(self, random: Random, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        """`count` values of `dtype`."""
        ...


@dataclass(frozen=True)
class Normal:
    scale: float

    def draw(self, random: Random, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        values = random.standard_normal(count, np.float32) * np.float32(self.scale)
        with np.errstate(
            over="ignore"
        ):  # a large scale may overflow float16, whose maximum is 65504
            return values.astype(dtype)


@dataclass(frozen=True)
class Uniform:
    """Uniform numbers; for integer types, both ends are included."""

    low: float
    high: float

    def draw(self, random: Random, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        if dtype.kind in "iu":
            return random.integers(int(self.low), int(self.high), count, dtype, endpoint=True)
        with np.errstate(over="ignore"):
            return random.uniform(self.low, self.high, count).astype(dtype)


@dataclass(frozen=True)
class Constant:
    value: float

    def draw(self, random: Random, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        return np.full(count, self.value).astype(dtype)


def read_fill(fields: Fields, dtype: str) -> tuple[Fill, bool]:
    """The fill for tensors of `dtype`, and whether its numbers are stored as bfloat16."""
    kind = fields.choice("kind", tuple(_READERS))
    fill = _READERS[kind](fields, dtype)
    fields.done()
    return fill, "bfloat16" in (kind, dtype)


def _read_normal(fields: Fields, dtype: str) -> Fill:
    if "float" not in dtype:
        raise InputError(
            f"fill 'normal' requires a float dtype; for {dtype} use 'uniform' or 'constant'"
        )
    return Normal(fields.number("scale", 0, _LARGEST))


def _read_bfloat16(fields: Fields, dtype: str) -> Fill:
    if dtype not in ("bfloat16", "uint16", "uint32"):
        raise InputError(f"fill 'bfloat16' requires dtype bfloat16, uint16 or uint32, not {dtype}")
    return Normal(fields.number("scale", 0, _LARGEST))


def _read_uniform(fields: Fields, dtype: str) -> Fill:
    low, high = _read_value(fields, "low", dtype), _read_value(fields, "high", dtype)
    if low > high:
        raise InputError(f"fill 'uniform': low {low} is above high {high}")
    return Uniform(low, high)


def _read_constant(fields: Fields, dtype: str) -> Fill:
    return Constant(_read_value(fields, "value", dtype))


def _read_value(fields: Fields, name: str, dtype: str) -> float:
    """A number that `dtype` can represent."""
    if "float" in dtype:
        return fields.number(name, -_LARGEST, _LARGEST)
    limits = np.iinfo(dtype)
    return fields.integer(name, int(limits.min), int(limits.max))


_READERS: Mapping[str, Callable[[Fields, str], Fill]] = {
    "normal": _read_normal,
    "bfloat16": _read_bfloat16,
    "uniform": _read_uniform,
    "constant": _read_constant,
}
