"""GPUs as a session has them: told to the client, and as the place of a call's arguments.

TVM's runtime runs already. The plug-in is loaded when a request first names a GPU, so that a
session on the CPU never touches a driver.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import InputError

from ..devices.device_select import DeviceRequest, choose, driver_of
from ..devices.quirks import lost_abilities, quirks_of
from ..devices.vulkan import load_vulkan, vulkan_devices, vulkan_problem
from ..execution.placement import CPU, VULKAN, Gpu, Host, Placement

if TYPE_CHECKING:
    from ..devices.vulkan import VulkanDevice

KINDS = (CPU, VULKAN)
_DEVICE = re.compile(rf"{CPU}|{VULKAN}:([0-9]{{1,4}})")


@dataclass(frozen=True)
class GpuEntry:
    """One GPU, as `describe` tells it; `index` is N of vulkan:N."""

    index: int
    name: str
    driver: str
    abilities: dict[str, int]
    """Without those that its driver is known to get wrong."""


def told_gpus(plugin: Path | None) -> list[dict[str, Any]]:
    """What there is; DeviceError where there is none, or no way to reach it."""
    found, problem = _found(plugin)
    choose(DeviceRequest(VULKAN), found, problem)
    return [asdict(_entry(device)) for device in found]


def placement_of(device: str, plugin: Path | None) -> Placement:
    """Of "cpu" or "vulkan:N". InputError for another name, DeviceError where it is not there."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise InputError(f"device {device!r:.80} must be {CPU} or {VULKAN}:NUMBER")
    if match[1] is None:
        return Host()
    return Gpu(VULKAN, choose(DeviceRequest(VULKAN, match[1]), *_found(plugin)).index)


def _found(plugin: Path | None) -> tuple[list[VulkanDevice], str | None]:
    """All of them, or why there are none. `plugin`: a library that was built elsewhere."""
    load_vulkan(plugin)
    found = vulkan_devices()
    return found, None if found else vulkan_problem()


def _entry(device: VulkanDevice) -> GpuEntry:
    lost = lost_abilities(quirks_of(device))
    abilities = {name: 0 if name in lost else int(has) for name, has in device.abilities.items()}
    return GpuEntry(device.index, device.name, driver_of(device), abilities)
