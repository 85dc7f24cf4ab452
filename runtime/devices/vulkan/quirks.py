"""Selects the rows of quirks.json that apply to a device, by driver, version, vendor and name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...system.json_dataclass import optional
from ..device_info import DeviceInfo
from ..quirks import Quirk, read_table

TABLE = Path(__file__).with_name("quirks.json")
NVIDIA, INTEL_WINDOWS = 4, 5
"""VkDriverId of the drivers that encode their version in their own format."""


@dataclass(frozen=True)
class VulkanQuirk(Quirk):
    driver_ids: tuple[int, ...] = optional(tuple)
    """VkDriverId."""
    vendor_ids: tuple[int, ...] = optional(tuple)

    def matches(self, device: DeviceInfo) -> bool:
        report = device.report
        return (
            (not self.driver_ids or report["driver_id"] in self.driver_ids)
            and (not self.vendor_ids or report["vendor_id"] in self.vendor_ids)
            and self.holds(device.name, driver_version(device))
        )

    @property
    def is_about_something(self) -> bool:
        return bool(self.driver_ids or self.vendor_ids or self.device)


@dataclass(frozen=True)
class _Table:
    quirks: tuple[VulkanQuirk, ...]


def quirks_of(device: DeviceInfo) -> tuple[VulkanQuirk, ...]:
    """The rows that apply to this device."""
    return tuple(quirk for quirk in known_quirks() if quirk.matches(device))


@lru_cache
def known_quirks() -> tuple[VulkanQuirk, ...]:
    return read_quirks(TABLE.read_text("utf-8"), str(TABLE))


def read_quirks(text: str, where: str) -> tuple[VulkanQuirk, ...]:
    """Parse the table. Raises InputError, with the location, for an invalid row."""
    return read_table(_Table, text, where)


def driver_version(device: DeviceInfo) -> tuple[int, ...]:
    """The driver version as the vendor numbers it, decoded from Vulkan's packed integer."""
    packed, driver = device.report["driver_version"], device.report["driver_id"]
    if driver == NVIDIA:
        return packed >> 22, packed >> 14 & 0xFF, packed >> 6 & 0xFF, packed & 0x3F
    if driver == INTEL_WINDOWS:
        return packed >> 14, packed & 0x3FFF
    return packed >> 22, packed >> 12 & 0x3FF, packed & 0xFFF
