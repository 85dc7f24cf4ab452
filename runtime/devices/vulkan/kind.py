"""Vulkan as a device kind: the implementation of driver.py."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...system.shared_library import SharedLibrary
from ..device_info import DeviceInfo
from ..driver import Driver, Hints
from .devices import vulkan_devices, vulkan_problem, vulkan_statistics
from .plugin import VULKAN
from .quirks import VulkanQuirk, quirks_of

MANIFESTS = ("/usr/share", "/usr/local/share", "/etc", "/etc/xdg", "~/.local/share", "~/.config")
"""Folders in which the Vulkan loader looks for vulkan/icd.d and the folders of layers."""


class VulkanDriver(Driver):
    hints = Hints(
        absent="install a driver (for Mesa, mesa-vulkan-drivers in Debian; vendors provide their "
        "own), check VK_DRIVER_FILES if it is set, and run 'handglass doctor'; a bundle "
        "compiled for a CPU needs no driver",
        crash="set VK_DRIVER_FILES to the drivers to use; VK_LOADER_DEBUG=all shows which crashes",
        hang="set VK_DRIVER_FILES to the drivers to use",
        lacking="--target vulkan has the lowest requirements, with --quantization f32 or w4a8",
    )
    variables = ("VK_", "LD_LIBRARY_PATH", "LD_PRELOAD", "HANDGLASS_VULKAN_")

    def load(self, plugin: SharedLibrary | None) -> None:
        VULKAN.load(plugin)

    def devices(self) -> list[DeviceInfo]:
        return vulkan_devices()

    def problem(self) -> str | None:
        return vulkan_problem()

    def quirks(self, device: DeviceInfo) -> tuple[VulkanQuirk, ...]:
        return quirks_of(device)

    def statistics(self, index: int) -> Mapping[str, Any]:
        return vulkan_statistics(index)

    def driver_files(self) -> Iterator[Path]:
        """The manifests of drivers and layers."""
        for folder in MANIFESTS:
            yield from Path(os.path.expanduser(folder), "vulkan").glob("*.d/*.json")  # noqa: PTH111


DRIVER = VulkanDriver
