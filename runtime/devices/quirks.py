"""What is known of drivers that get something wrong: quirks.json, a table of facts.

A row matches by driver, version, vendor and name of the device. It takes abilities away, or it says
that the device is broken for us, or it is merely told by `handglass doctor`. A row needs a reason
and a source that others can look up, or the version that we ran ourselves. What nobody has written
down yet is found by the known answers (known_answers.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import InputError

from ..bundle.json_dataclass import optional, parse_dataclass

if TYPE_CHECKING:
    from .vulkan import VulkanDevice

TABLE = Path(__file__).with_name("vulkan") / "quirks.json"
NVIDIA, INTEL_WINDOWS = 4, 5
"""VkDriverId of those that pack their version in a way of their own."""
_ANY: tuple[str, str] = ("", "")


def _none() -> None:
    return None


@dataclass(frozen=True)
class Quirk:
    """A condition that is left out holds for all."""

    name: str
    reason: str
    source: str
    driver_ids: tuple[int, ...] = optional(tuple)
    """VkDriverId."""
    vendor_ids: tuple[int, ...] = optional(tuple)
    versions: tuple[str, ...] = optional(lambda: _ANY)
    """From the first, up to but not with the second; empty: no end on that side."""
    device: str | None = optional(_none)
    """A pattern for part of the device's name."""
    unless_device: str | None = optional(_none)
    loses: tuple[str, ...] = optional(tuple)
    """Abilities that are not to be used."""
    broken: bool = optional(bool)
    """Nothing of ours is to be run there."""

    def matches(self, device: VulkanDevice) -> bool:
        name, version = device.name, driver_version(device)
        first, end = self.versions
        return (
            (not self.driver_ids or device.driver_id in self.driver_ids)
            and (not self.vendor_ids or device.vendor_id in self.vendor_ids)
            and (not first or version >= _numbers(first))
            and (not end or version < _numbers(end))
            and (self.device is None or re.search(self.device, name) is not None)
            and (self.unless_device is None or re.search(self.unless_device, name) is None)
        )


@dataclass(frozen=True)
class _Table:
    quirks: tuple[Quirk, ...]


def quirks_of(device: VulkanDevice) -> tuple[Quirk, ...]:
    """The rows that are about this device."""
    return tuple(quirk for quirk in known_quirks() if quirk.matches(device))


def lost_abilities(quirks: Sequence[Quirk]) -> frozenset[str]:
    return frozenset(name for quirk in quirks for name in quirk.loses)


@lru_cache
def known_quirks() -> tuple[Quirk, ...]:
    return read_quirks(TABLE.read_text("utf-8"), str(TABLE))


def read_quirks(text: str, where: str) -> tuple[Quirk, ...]:
    """InputError, with its place, for a row that cannot be meant."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    quirks = parse_dataclass(_Table, data, where).quirks
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
    if not (quirk.driver_ids or quirk.vendor_ids or quirk.device):
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


def driver_version(device: VulkanDevice) -> tuple[int, ...]:
    """The numbers that its maker gives the driver, out of the one that Vulkan packs them into."""
    packed = device.driver_version
    if device.driver_id == NVIDIA:
        return packed >> 22, packed >> 14 & 0xFF, packed >> 6 & 0xFF, packed & 0x3F
    if device.driver_id == INTEL_WINDOWS:
        return packed >> 14, packed & 0x3FFF
    return packed >> 22, packed >> 12 & 0x3FF, packed & 0xFFF


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
