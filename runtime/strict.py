"""Dataclasses out of JSON, strictly: the fields are the keys, and nothing else is read.

A missing, unknown or wrongly typed key is an InputError that names its place. What comes from
outside is shown escaped and cut short: a message ends on somebody's terminal.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import lru_cache
from typing import Any, TypeVar

from handglass.errors import InputError

T = TypeVar("T")


def parse_dataclass(cls: type[T], data: Any, where: str, key: str = "") -> T:
    """A dataclass from a JSON object with exactly its fields as keys."""
    if not isinstance(data, dict):
        raise _wrong_type(data, "an object", where, key)
    hints = _hints(typing.cast(typing.Hashable, cls))
    at = f"{key}." if key else ""
    for name in hints.keys() - data.keys():
        raise InputError(f"{where}: key {at + name!r} is missing")
    for name in data.keys() - hints.keys():
        raise InputError(f"{where}: key {at + name!r:.100} is unknown; keys: {', '.join(hints)}")
    return cls(**{name: _parse(hint, data[name], where, at + name) for name, hint in hints.items()})


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    """Asked for once per tensor; working it out anew each time took half of the parsing."""
    return typing.get_type_hints(cls)


def _parse(hint: Any, value: Any, where: str, key: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return parse_dataclass(typing.cast(type, hint), value, where, key)
    origin = typing.get_origin(hint)
    if origin is types.UnionType:  # something or None
        something = next(item for item in typing.get_args(hint) if item is not types.NoneType)
        return None if value is None else _parse(something, value, where, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong_type(value, "a list", where, key)
        item = typing.get_args(hint)[0]
        return tuple(_parse(item, v, where, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is not None:  # Mapping[str, item]
        if not isinstance(value, dict):
            raise _wrong_type(value, "an object", where, key)
        item = typing.get_args(hint)[1]
        return {k: _parse(item, v, where, f"{key}.{k}") for k, v in value.items()}
    if hint is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) is not hint:
        raise _wrong_type(value, hint.__name__, where, key)
    return value


def _wrong_type(value: Any, wanted: str, where: str, key: str) -> InputError:
    place = repr(key)[1:-1] or "the whole"
    return InputError(f"{where}: {place:.100} must be {wanted}, found {value!r:.100}")
