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
NEUTRAL = {"factor": 1, "partial_rotary_factor": 1}
"""Keys that may be present with this value, which changes nothing."""
DEFAULT_THETA = 10000.0


def rope_theta(fields: Fields) -> float:
    """The base. Raises InputError for scaled positions and for two bases that differ."""
    found = (
        {"rope_theta": fields.number("rope_theta")} if fields.get("rope_theta") is not None else {}
    )
    for section in SECTIONS:
        if fields.get(section):
            inner = _unscaled(fields, section)
            if inner.get("rope_theta") is not None:
                found[f"{section}.rope_theta"] = inner.number("rope_theta")
    if len(set(found.values())) > 1:
        given = ", ".join(f"{key} is {value:g}" for key, value in found.items())
        raise InputError(f"config.json: {given}; they must agree")
    return next(iter(found.values()), DEFAULT_THETA)


def _unscaled(fields: Fields, section: str) -> Fields:
    value: Any = fields.get(section)
    inner = fields.section(section)
    kinds = {value[key] for key in TYPE_KEYS if isinstance(value.get(key), str)}
    others = {
        key: item
        for key, item in value.items()
        if key not in (*TYPE_KEYS, "rope_theta") and item is not None and NEUTRAL.get(key) != item
    }
    if kinds != {"default"} or others:
        raise InputError(
            f"config.json: {section} is {value!r:.200}: scaled rotary positions: not supported yet"
        )
    return inner
