"""Reads the fields of a protocol message: checks types and ranges, rejects unknown fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from handglass.errors import InputError


class Fields:
    """One object of a message; `where` names it in errors. All methods raise InputError."""

    def __init__(self, table: object, where: str) -> None:
        if not isinstance(table, dict):
            raise InputError(f"{where}: expected an object, got {table!r:.80}")
        self._table: Mapping[str, Any] = table
        self._where = where
        self._unread = set(table)

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def text(self, name: str, longest: int = 120) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            raise self._wrong(name, value, f"a string of 1 to {longest} characters")
        return value

    def data(self, name: str) -> bytes:
        value = self._take(name)
        if not isinstance(value, bytes):
            raise self._wrong(name, value, "bytes")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        value = self._take(name)
        if not isinstance(value, str) or value not in known:
            raise self._wrong(name, value, f"one of {', '.join(known)}")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, value, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A number in [low, high]; always finite."""
        value = self._take(name)
        if type(value) not in (int, float) or not low <= value <= high or not _is_finite(value):
            raise self._wrong(name, value, f"a finite number from {low:g} to {high:g}")
        return float(value)

    def array(self, name: str, longest: int) -> list[Any]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) > longest:
            raise self._wrong(name, value, f"a list of at most {longest}")
        return value

    def inner(self, name: str) -> Fields:
        return Fields(self._take(name), f"{self._where}, {name!r}")

    def done(self) -> None:
        """Raise InputError if the message has fields that were not read."""
        if self._unread:
            raise InputError(f"{self._where}: unknown field {min(self._unread)!r:.80}")

    def _take(self, name: str) -> Any:
        if name not in self._table:
            raise InputError(f"{self._where}: {name!r} is missing")
        self._unread.discard(name)
        return self._table[name]

    def _wrong(self, name: str, value: object, expected: str) -> InputError:
        return InputError(f"{self._where}: {name!r} must be {expected}, got {value!r:.80}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer outside the range of float
        return False
