"""Typed access to one section of a JSON configuration.

Each method returns a validated value or raises an `InputError` that names the section, the key and
the value. This module knows JSON types and ranges, but no model.

A configuration that is a `Recorded` also knows afterwards which of its keys nothing has read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from handglass.errors import InputError

# No model size is larger; without a limit, a typo could exhaust time or memory.
LARGEST = 1 << 24
MOST_TOKENS = 64  # of a list of token ids
LARGEST_FLOAT = 3.4e38  # the largest float32, as compiled code computes in float32


class Recorded(dict[str, Any]):
    """A JSON object that remembers which keys were read, in nested objects too."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(
            (key, Recorded(value) if isinstance(value, dict) else value)
            for key, value in values.items()
        )
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return super().__getitem__(key)

    def items(self) -> Any:
        self._read.update(self)
        return super().items()

    def unread(self, prefix: str = "") -> Iterator[str]:
        """The dotted paths of the keys that were not read; null is as good as absent."""
        for key, value in super().items():
            if key not in self._read:
                yield from [] if value is None else [f"{prefix}{key}"]
            elif isinstance(value, Recorded):
                yield from value.unread(f"{prefix}{key}.")


class Fields:
    """The keys of one section; `where` is its name in error messages."""

    def __init__(self, section: object, where: str) -> None:
        if not isinstance(section, dict):
            raise InputError(f"{where}: expected an object, found {_kind(section)}")
        self._section: dict[str, Any] = section
        self._where = where

    @property
    def where(self) -> str:
        """Its name in error messages."""
        return self._where

    @property
    def keys(self) -> Set[str]:
        """All that are there."""
        return self._section.keys()

    def get(self, key: str) -> Any:
        """The raw value, or None if it is absent or null."""
        return self._section.get(key)

    def names(self) -> list[str]:
        """Its keys."""
        return list(self._section)

    def section(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self._required(key, None), f"{self._where} {key}")

    def integer(
        self, key: str, default: int | None = None, minimum: int = 1, maximum: int = LARGEST
    ) -> int:
        """A whole number from `minimum` to `maximum`."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong_type(key, value, "a whole number")
        if value < minimum:
            raise InputError(f"{self._where}: {key} is {value}, but must be at least {minimum}")
        if value > maximum:
            raise InputError(f"{self._where}: {key} is {value}, but must be at most {maximum}")
        return value

    def token(self, key: str, vocab_size: int, default: int) -> int:
        """A token id in the vocabulary."""
        value = self.integer(key, default, minimum=0)
        if value >= vocab_size:
            raise InputError(f"{self._where}: {key} is {value}, but vocab_size is {vocab_size}")
        return value

    def tokens(self, key: str, vocab_size: int) -> tuple[int, ...]:
        """Token ids: a list, a single one, or none if the key is absent."""
        value = self.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if len(ids) > MOST_TOKENS:
            raise InputError(f"{self._where}: {key} has {len(ids)} ids, at most {MOST_TOKENS}")
        single = (Fields({key: id}, self._where).token(key, vocab_size, -1) for id in ids)
        return tuple(dict.fromkeys(single))

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above zero."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong_type(key, value, "a number")
        # A JSON integer may exceed the range of a float, where math.isfinite raises.
        if not 0 < value <= LARGEST_FLOAT:
            raise InputError(f"{self._where}: {key} is {value}, but must be a number above 0")
        return float(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """A list of `count` finite numbers above zero."""
        value = self._required(key, None)
        if not isinstance(value, list) or len(value) != count:
            raise self._wrong_type(key, value, f"a list of {count} numbers")
        return tuple(Fields({key: item}, self._where).number(key) for item in value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._required(key, default)
        if not isinstance(value, bool):
            raise self._wrong_type(key, value, "true or false")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings with at least one entry."""
        value = self._required(key, None)
        strings = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        if not strings or not value:
            raise self._wrong_type(key, value, "a list of names")
        return list(value)

    def expect(self, key: str, only: object) -> None:
        """Raise InputError unless the key is absent or has the only supported value."""
        value = self.get(key)
        if value is not None and value != only:
            raise InputError(
                f"{self._where}: {key} is {value!r:.200}, but only {only!r} is supported"
            )

    def multiple(self, key: str, value: int, divisor_name: str, divisor: int) -> None:
        """Raise InputError unless `value` is a multiple of `divisor`."""
        if value % divisor:
            raise InputError(
                f"{self._where}: {key} is {value}, which is not a multiple of {divisor_name}"
                f" ({divisor})"
            )

    def _required(self, key: str, default: Any) -> Any:
        value = self._section.get(key)
        if value is not None:
            return value
        if default is None:
            raise InputError(f"{self._where}: {key} is missing")
        return default

    def _wrong_type(self, key: str, value: object, wanted: str) -> InputError:
        return InputError(f"{self._where}: {key} is {value!r:.200} ({_kind(value)}), not {wanted}")


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    kind = dict if isinstance(value, dict) else type(value)
    return names.get(kind, kind.__name__)
