"""Parses dataclasses from JSON strictly: the keys must be exactly the fields.

Only a field declared with `optional` may be missing. When a dataclass is written, an optional field
that equals its default is omitted, so files from before the field existed do not change.

A missing, unknown or mistyped key is an InputError that gives its location. Messages quote external
values escaped and truncated, because they may be printed on a terminal.
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
    """Parse `cls` from a JSON object whose keys are its fields; optional fields may be missing.

    `where` names the file and `key` the object inside it. Raises InputError.
    """
    if not isinstance(data, dict):
        raise _wrong_type(data, "an object", where, key)
    hints = _hints(typing.cast(Any, cls))
    at = f"{key}." if key else ""
    for name in sorted(hints.keys() - data.keys() - _optional(typing.cast(Any, cls))):
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
    """A dataclass field whose key may be missing; its value is then `default()`."""
    return dataclasses.field(default_factory=default, metadata={_OPTIONAL: True})


def plain(value: Any) -> Any:
    """Convert a dataclass to JSON types, omitting optional fields that equal their default."""
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
    """Cached: get_type_hints once per tensor took half of the parsing time."""
    return typing.get_type_hints(cls)


def _parse(hint: Any, value: Any, where: str, key: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return parse_dataclass(typing.cast(type, hint), value, where, key)
    origin = typing.get_origin(hint)
    if origin is types.UnionType:  # T | None
        inner = next(item for item in typing.get_args(hint) if item is not types.NoneType)
        return None if value is None else _parse(inner, value, where, key)
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
    place = repr(key)[1:-1] or "the document"
    return InputError(f"{where}: {place:.100} must be {wanted}, found {value!r:.100}")
