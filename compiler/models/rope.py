"""The base of the rotary positions, from the older and the newer keys of `config.json`.

Older files have `rope_theta`; newer ones have an object `rope_parameters` (or `rope_scaling`) with
a type and the base. Only the type "default", positions without scaling, is supported.
"""

from __future__ import annotations

from typing import Any

from handglass.errors import InputError

from ..checkpoints.fields import Fields

SECTIONS = ("rope_parameters", "rope_scaling")
TYPE_KEYS = ("rope_type", "type")
NEUTRAL = {"factor": 1}
"""Keys that may be present with this value, which changes nothing."""
READ = ("rope_theta", "partial_rotary_factor")
"""Keys that are read."""
DEFAULT_THETA = 10000.0


def rope_theta(fields: Fields) -> float:
    """The base. Raises InputError for scaled positions and for two bases that differ."""
    return _agreed(fields, "rope_theta", DEFAULT_THETA)


def rotary_factor(fields: Fields) -> float:
    """The part of each head that is rotated, up to 1."""
    factor = _agreed(fields, "partial_rotary_factor", 1.0)
    if factor > 1:
        raise InputError(f"config.json: partial_rotary_factor is {factor:g}; must be at most 1")
    return factor


def _agreed(fields: Fields, key: str, default: float) -> float:
    """A number at the top or in a section. Raises InputError if two values differ."""
    found = {key: fields.number(key)} if fields.get(key) is not None else {}
    for section in SECTIONS:
        if fields.get(section):
            inner = _unscaled(fields, section)
            if inner.get(key) is not None:
                found[f"{section}.{key}"] = inner.number(key)
    if len(set(found.values())) > 1:
        given = ", ".join(f"{name} is {value:g}" for name, value in found.items())
        raise InputError(f"config.json: {given}; they must agree")
    return next(iter(found.values()), default)


def _unscaled(fields: Fields, section: str) -> Fields:
    value: Any = fields.get(section)
    inner = fields.section(section)
    kinds = {value[key] for key in TYPE_KEYS if isinstance(value.get(key), str)}
    others = {
        key: item
        for key, item in value.items()
        if key not in (*TYPE_KEYS, *READ) and item is not None and NEUTRAL.get(key) != item
    }
    if kinds != {"default"} or others:
        raise InputError(
            f"config.json: {section} is {value!r:.200}: scaled rotary positions: not supported yet"
        )
    return inner
