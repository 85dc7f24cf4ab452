"""The rotary positions of `config.json`: base, rotated part of a head, and scaling.

Older files have `rope_theta` and `rope_scaling`; newer ones have an object `rope_parameters` with a
type, the base and the constants of the type. A scaled type divides each frequency by a constant:

* llama3: long wavelengths by `factor`, short ones not at all, those between in part;
* longrope: by a list, and cosines and sines are multiplied by a magnitude (Ding et al. 2024,
  https://arxiv.org/abs/2402.13753);
* linear: by `factor`;
* dynamic: not at all up to max_position_embeddings, which no bundle exceeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi, sqrt
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import AXES

from ..checkpoints.fields import Fields

SECTIONS = ("rope_parameters", "rope_scaling")
TYPE_KEYS = ("rope_type", "type")
READ = ("rope_theta", "partial_rotary_factor")
DEFAULT_THETA = 10000.0
"""Of the released classes, whose files may omit it."""
AXIS_SECTIONS, INTERLEAVED = AXIS_KEYS = "mrope_section", "mrope_interleaved"
"""Keys for tokens with a position on each of three axes; equal positions make them irrelevant."""
DEFAULT_SECTIONS = (11, 11, 10)
"""Of the class in transformers."""
SMALLEST, LARGEST = 1e-6, 1e6
"""Of a divisor."""


@dataclass(frozen=True)
class Scaling:
    """Divisors of the frequencies, one per pair of elements (empty: all 1), and the magnitude."""

    divisors: tuple[float, ...] = ()
    magnitude: float = 1.0


def rope_theta(fields: Fields) -> float:
    """The base. Raises InputError if two values differ."""
    return _agreed(fields, "rope_theta", DEFAULT_THETA)


def rotary_factor(fields: Fields) -> float:
    """The part of each head that is rotated, up to 1."""
    factor = _agreed(fields, "partial_rotary_factor", 1.0)
    if factor > 1:
        raise InputError(f"config.json: partial_rotary_factor is {factor:g}; must be at most 1")
    return factor


def rope_sections(fields: Fields, rotated: int) -> tuple[int, ...]:
    """Rotated pairs per axis (T, H, W), which are interleaved.

    Raises InputError for sections that are not three numbers whose sum is the number of pairs.
    """
    for section in (fields.section(name) for name in SECTIONS if fields.get(name)):
        section.expect(INTERLEAVED, True)
        if section.get(AXIS_SECTIONS) is not None:
            pairs: Any = section.get(AXIS_SECTIONS)
            is_list = isinstance(pairs, list) and all(type(count) is int for count in pairs)
            if not is_list or len(pairs) != AXES or min(pairs) < 1 or sum(pairs) != rotated // 2:
                raise InputError(
                    f"config.json: {AXIS_SECTIONS} is {pairs!r:.200}; must be {AXES} counts with "
                    f"the sum {rotated // 2}, the rotated pairs of a head"
                )
            return tuple(pairs)
    return DEFAULT_SECTIONS


def rope_scaling(
    fields: Fields, rotated: int, longest: int, other_keys: tuple[str, ...] = ()
) -> Scaling:
    """The scaling of heads with `rotated` rotated elements; `longest`: max_position_embeddings.

    `other_keys` of a section are read elsewhere, or do not matter. Raises InputError for an unknown
    type or key, and if two sections differ.
    """
    found = {
        section: _scaling(fields, section, rotated, longest, other_keys)
        for section in SECTIONS
        if fields.get(section)
    }
    if len(set(found.values())) > 1:
        raise InputError(f"config.json: {' and '.join(found)} differ; they must agree")
    return next(iter(found.values()), Scaling())


def _agreed(fields: Fields, key: str, default: float) -> float:
    """A number at the top or in a section. Raises InputError if two values differ."""
    found = {key: fields.number(key)} if fields.get(key) is not None else {}
    for section in SECTIONS:
        if fields.get(section):
            inner = fields.section(section)
            if inner.get(key) is not None:
                found[f"{section}.{key}"] = inner.number(key)
    if len(set(found.values())) > 1:
        given = ", ".join(f"{name} is {value:g}" for name, value in found.items())
        raise InputError(f"config.json: {given}; they must agree")
    return next(iter(found.values()), default)


def _scaling(
    fields: Fields, section: str, rotated: int, longest: int, other_keys: tuple[str, ...]
) -> Scaling:
    value: Any = fields.get(section)
    inner = fields.section(section)
    kinds = {value[key] for key in TYPE_KEYS if isinstance(value.get(key), str)}
    kind = kinds.pop() if len(kinds) == 1 else None
    keys, scaled = TYPES.get(kind or "", ((), None))
    others = {
        key: item
        for key, item in value.items()
        if key not in (*TYPE_KEYS, *READ, *keys, *other_keys)
        and item is not None
        and (key, item) != NEUTRAL
    }
    if scaled is None or others:
        raise InputError(
            f"config.json: {section} is {value!r:.200}: rotary positions of this kind: "
            "not supported yet"
        )
    frequencies = [rope_theta(fields) ** (-2 * j / rotated) for j in range(rotated // 2)]
    return _checked(scaled(inner, frequencies, longest), section)


NEUTRAL = ("factor", 1)
"""A key that every type may have with this value."""


def _checked(scaling: Scaling, section: str) -> Scaling:
    for value in (*scaling.divisors, scaling.magnitude):
        if not SMALLEST <= value <= LARGEST:
            raise InputError(f"config.json: {section} divides a frequency by {value:g}")
    return scaling


def _default(inner: Fields, frequencies: list[float], longest: int) -> Scaling:
    return Scaling()


def _linear(inner: Fields, frequencies: list[float], longest: int) -> Scaling:
    return Scaling((inner.number("factor"),) * len(frequencies))


def _llama3(inner: Fields, frequencies: list[float], longest: int) -> Scaling:
    factor, original = inner.number("factor"), inner.number("original_max_position_embeddings")
    low, high = inner.number("low_freq_factor"), inner.number("high_freq_factor")
    if high <= low:
        raise InputError(
            f"config.json: high_freq_factor is {high:g}, but must be above low_freq_factor {low:g}"
        )

    def divisor(frequency: float) -> float:
        turns = original * frequency / (2 * pi)  # within the original length
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        return 1 / ((1 - kept) / factor + kept)

    return Scaling(tuple(map(divisor, frequencies)))


def _longrope(inner: Fields, frequencies: list[float], longest: int) -> Scaling:
    """The long list if the model is longer than it was trained first, as the reference does."""
    original = inner.number("original_max_position_embeddings", default=float(longest))
    key = "long_factor" if longest > original else "short_factor"
    return Scaling(
        inner.numbers(key, len(frequencies)), _longrope_magnitude(inner, original, longest)
    )


def _longrope_magnitude(inner: Fields, original: float, longest: int) -> float:
    if inner.get("attention_factor") is not None:
        return inner.number("attention_factor")
    factor = inner.number("factor", default=longest / original)
    return 1.0 if factor <= 1 or original <= 1 else sqrt(1 + log(factor) / log(original))


ORIGINAL = "original_max_position_embeddings"
Scale = Callable[[Fields, list[float], int], Scaling]
TYPES: dict[str, tuple[tuple[str, ...], Scale]] = {
    "default": ((), _default),
    "linear": (("factor",), _linear),
    "dynamic": (("factor",), _default),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", ORIGINAL), _llama3),
    "longrope": (
        ("factor", "short_factor", "long_factor", "attention_factor", ORIGINAL),
        _longrope,
    ),
}
"""Type -> its keys and its scaling."""
