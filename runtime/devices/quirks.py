"""Known driver bugs ("quirks"): the rows of a table that each device kind keeps.

A row disables capabilities, marks the device as broken, or is only reported by `handglass doctor`.
It needs a reason and a public source, or the version on which we reproduced the bug. The
known-answer tests (known_answers.py) detect bugs that are not in the table.
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
    """A driver bug and the devices it affects; an omitted condition matches all devices. A kind may
    add conditions in a subclass."""

    name: str
    reason: str
    source: str
    versions: tuple[str, ...] = optional(lambda: _ANY)
    """Affected driver versions [first, end); an empty string leaves that side open."""
    device: str | None = optional(_none)
    """A regular expression for part of the device name."""
    unless_device: str | None = optional(_none)
    """A regular expression for device names that are not affected."""
    loses: tuple[str, ...] = optional(tuple)
    """Capabilities that must not be used."""
    broken: bool = optional(bool)
    """The device must not be used at all."""

    def holds(self, name: str, version: tuple[int, ...]) -> bool:
        """Whether the row applies to a device name and driver version."""
        first, end = self.versions
        return (
            (not first or version >= _numbers(first))
            and (not end or version < _numbers(end))
            and (self.device is None or re.search(self.device, name) is not None)
            and (self.unless_device is None or re.search(self.unless_device, name) is None)
        )

    @property
    def is_about_something(self) -> bool:
        """Whether the row has a condition; a row that matches every device is an error."""
        return bool(self.device)


def lost_abilities(quirks: Sequence[Quirk]) -> frozenset[str]:
    return frozenset(name for quirk in quirks for name in quirk.loses)


def read_table(table: type, text: str, where: str) -> tuple[Any, ...]:
    """Parse the rows of `table`, a dataclass with the single field `quirks`.

    Raises InputError, with the location, for an invalid row.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    quirks: tuple[Quirk, ...] = parse_dataclass(table, data, where).quirks
    for quirk in quirks:
        if problem := _problem(quirk):
            raise InputError(f"{where}: quirk {quirk.name!r:.80}: {problem}")
    if len({quirk.name for quirk in quirks}) != len(quirks):
        raise InputError(f"{where}: two quirks have the same name")
    return quirks


def _problem(quirk: Quirk) -> str:
    """A violated constraint that the types do not express, or the empty string."""
    if not (quirk.reason and quirk.source):
        return "reason and source must not be empty"
    if not quirk.is_about_something:
        return "must name a driver, a vendor or a device"
    numbers = all(re.fullmatch(r"(\d+(\.\d+)*)?", version) for version in quirk.versions)
    if len(quirk.versions) != 2 or not numbers:
        return "versions must be two strings such as 25.0.7, or empty"
    try:
        for pattern in (quirk.device, quirk.unless_device):
            re.compile(pattern or "")
    except re.error as error:
        return f"invalid regular expression: {error}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
