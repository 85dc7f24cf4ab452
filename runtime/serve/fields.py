"""Reads the fields of a JSON object from anyone: each has a type and a range."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .refusal import bad


class Fields:
    """`where`: the path of the object in the body, for messages. null is as good as missing.

    Fields that nobody has read are refused at the end, by `refuse_others`.
    """

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise bad(f"{where or 'the body'} must be an object", where or None)
        self._value = value
        self._where = where
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def get(self, name: str) -> Any:
        self._read.add(name)
        return self._value.get(name)

    def refuse_others(self, harmless: Collection[str] = ()) -> None:
        """Raise Refusal for a field that nobody has read, as it may change what is asked for."""
        unknown = sorted(self._value.keys() - self._read - set(harmless))
        if unknown:
            path = self.path(f"{unknown[0]:.100}")
            raise bad(f"unrecognized field {path!r}", path, "unknown_parameter")

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        if not low <= value <= high:
            raise self.wrong(name, f"must be from {low:g} to {high:g}")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.number(name, low, high)
        if value is None or isinstance(value, int):
            return value
        raise self.wrong(name, "must be an integer")

    def flag(self, name: str) -> bool | None:
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "must be true or false")

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "must be a string")

    def one_of(self, name: str, known: Collection[str]) -> str | None:
        value = self.text(name)
        if value is None or value in known:
            return value
        raise self.wrong(name, f"must be one of {', '.join(map(repr, known))}")

    def object(self, name: str) -> Fields | None:
        value = self.get(name)
        return None if value is None else Fields(value, self.path(name))

    def list(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "must be a list")
        return value

    def only(self, name: str, *values: Any) -> None:
        """Refuse any other value of a field that this server cannot follow."""
        value = self.get(name)
        if value is not None and value not in values:
            known = f"; leave it out, or use {values[0]!r}" if values else "; leave it out"
            raise self.wrong(name, f"is not supported by this server{known}", "unsupported_value")

    def wrong(self, name: str, what: str, code: str | None = None) -> Exception:
        path, value = self.path(name), f"{self.get(name)!r:.60}"
        return bad(f"{path} = {value} {what}", path, code)
