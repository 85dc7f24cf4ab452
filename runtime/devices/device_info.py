"""The description of a device that is independent of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Ability = bool | int


@dataclass(frozen=True)
class DeviceInfo:
    """A device; `index` is N of KIND:N. Sizes are in bytes."""

    kind: str
    index: int
    name: str
    sort: str  # "discrete", "integrated", "virtual", "cpu", "other"
    uuid: str
    driver: str  # name and version, as the vendor writes them
    driver_key: str  # differs between drivers whose results may differ
    interface: str  # the API of the driver and its version: "Vulkan 1.3.0"
    memory: int  # size of the largest heap of device memory
    unified_memory: bool  # host and device share the same memory
    abilities: Mapping[str, Ability]  # capabilities, by TVM's target attribute names and a few more
    report: Mapping[str, Any]  # all properties, in a format specific to the kind

    @property
    def place(self) -> str:
        """The name of the device for --device and in the device protocol: "vulkan:0"."""
        return f"{self.kind}:{self.index}"

    def __str__(self) -> str:
        return f"{self.place} ({self.name})"
