"""Dataclasses out of JSON, strictly: the fields are the keys, and nothing else is read.

Only a field that is marked by `optional` may be left out, and one that has its default is left out
where a dataclass is written: files of before it was thought of stay as they were.

A missing, unknown or wrongly typed key is an InputError that names its place. What comes from
outside is shown escaped and cut short: a message ends on somebody's terminal.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from handglass.errors import InputError

T = TypeVar("T")
_OPTIONAL = "optional"


def parse_dataclass(cls: type[T], data: Any, where: str, key: str = "") -> T:
    """A dataclass from a JSON object with exactly its fields as keys, optional ones aside."""
    if not isinstance(data, dict):
        raise _wrong_type(data, "an object", where, key)
    hints = _hints(typing.cast(Any, cls))
    at = f"{key}." if key else ""
    for name in hints.keys() - data.keys() - _optional(typing.cast(Any, cls)):
        raise InputError(f"{where}: key {at + name!r} is missing")
    for name in data.keys() - hints.keys():
        raise InputError(f"{where}: key {at + name!r:.100} is unknown; keys: {', '.join(hints)}")
    return cls(
        **{
            name: _parse(hint, data[name], where, at + name)
            for name, hint in hints.items()
            if name in data
        }
    )


def optional(default: Callable[[], Any]) -> Any:
    """A field of a dataclass whose key may be missing; it then holds what `default` makes."""
    return dataclasses.field(default_factory=default, metadata={_OPTIONAL: True})


def plain(value: Any) -> Any:
    """A dataclass as what JSON knows, without the optional fields that hold their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(item)
            for field in dataclasses.fields(value)
            for item in [getattr(value, field.name)]
            if not (field.metadata.get(_OPTIONAL) and item == _default(field))
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _default(field: dataclasses.Field[Any]) -> Any:
    assert field.default_factory is not dataclasses.MISSING
    return field.default_factory()


@lru_cache
def _optional(cls: Any) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls) if f.metadata.get(_OPTIONAL))


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
