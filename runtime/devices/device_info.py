"""A device that was found, as everything but the folder of its kind knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Ability = bool | int


@dataclass(frozen=True)
class DeviceInfo:
    """`index` is N of KIND:N. Sizes in bytes."""

    kind: str
    index: int
    name: str
    sort: str  # "discrete", "integrated", "virtual", "cpu", "other"
    uuid: str
    driver: str  # name and version, as its maker writes them
    driver_key: str  # another one for every driver that may compute something else
    interface: str  # what the driver speaks, and of which version: "Vulkan 1.3.0"
    memory: int  # the most that the device has of its own
    unified_memory: bool  # the host and the device use the same memory
    abilities: Mapping[str, Ability]  # by the names of TVM's target attributes, and more
    report: Mapping[str, Any]  # all that the folder of its kind knows, as it says it

    @property
    def place(self) -> str:
        """As --device and the measuring protocol name it."""
        return f"{self.kind}:{self.index}"

    def __str__(self) -> str:
        return f"{self.place} ({self.name})"
