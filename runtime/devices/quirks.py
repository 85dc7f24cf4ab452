"""What is known of drivers that get something wrong: rows of a table that each kind keeps.

A row takes abilities away, or it says that the device is broken for us, or it is merely told by
`handglass doctor`. A row needs a reason and a source that others can look up, or the version that
we ran ourselves. What nobody has written down yet is found by the known answers (known_answers.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from ..system.json_dataclass import optional, parse_dataclass

_ANY: tuple[str, str] = ("", "")


def _none() -> None:
    return None


@dataclass(frozen=True)
class Quirk:
    """A condition that is left out holds for all. A kind adds conditions of its own."""

    name: str
    reason: str
    source: str
    versions: tuple[str, ...] = optional(lambda: _ANY)
    """From the first, up to but not with the second; empty: no end on that side."""
    device: str | None = optional(_none)
    """A pattern for part of the device's name."""
    unless_device: str | None = optional(_none)
    loses: tuple[str, ...] = optional(tuple)
    """Abilities that are not to be used."""
    broken: bool = optional(bool)
    """Nothing of ours is to be run there."""

    def holds(self, name: str, version: tuple[int, ...]) -> bool:
        """For a device of that name, with a driver of that version."""
        first, end = self.versions
        return (
            (not first or version >= _numbers(first))
            and (not end or version < _numbers(end))
            and (self.device is None or re.search(self.device, name) is not None)
            and (self.unless_device is None or re.search(self.unless_device, name) is None)
        )

    @property
    def is_about_something(self) -> bool:
        """Whether it names what it is about; a row about everything cannot be meant."""
        return bool(self.device)


def lost_abilities(quirks: Sequence[Quirk]) -> frozenset[str]:
    return frozenset(name for quirk in quirks for name in quirk.loses)


def read_table(table: type, text: str, where: str) -> tuple[Any, ...]:
    """The rows of a dataclass `table` with the one field `quirks`.

    InputError, with its place, for a row that cannot be meant.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    quirks: tuple[Quirk, ...] = parse_dataclass(table, data, where).quirks
    for quirk in quirks:
        if wrong := _wrong(quirk):
            raise InputError(f"{where}: quirk {quirk.name!r:.80}: {wrong}")
    if len({quirk.name for quirk in quirks}) != len(quirks):
        raise InputError(f"{where}: two quirks have the same name")
    return quirks


def _wrong(quirk: Quirk) -> str:
    """What the types cannot say, or nothing."""
    if not (quirk.reason and quirk.source):
        return "needs a reason and a source"
    if not quirk.is_about_something:
        return "must name a driver, a vendor or a device"
    numbers = all(re.fullmatch(r"(\d+(\.\d+)*)?", version) for version in quirk.versions)
    if len(quirk.versions) != 2 or not numbers:
        return "versions must be two like 25.0.7, or empty"
    try:
        for pattern in (quirk.device, quirk.unless_device):
            re.compile(pattern or "")
    except re.error as error:
        return f"not a pattern: {error}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
