"""Vulkan as a kind of devices: what driver.py asks of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..device_info import DeviceInfo
from ..driver import Driver, Hints
from .devices import vulkan_devices, vulkan_problem, vulkan_statistics
from .loading import load_vulkan
from .quirks import VulkanQuirk, quirks_of

MANIFESTS = ("/usr/share", "/usr/local/share", "/etc", "/etc/xdg", "~/.local/share", "~/.config")
"""Where the loader looks for vulkan/icd.d and the folders of layers beside it."""


class VulkanDriver(Driver):
    hints = Hints(
        absent="install a driver (Mesa's is called mesa-vulkan-drivers in Debian; vendors bring "
        "their own), check VK_DRIVER_FILES if it is set, and look at 'handglass doctor'; a bundle "
        "that is compiled for a CPU needs none",
        crash="VK_DRIVER_FILES names the ones to use, VK_LOADER_DEBUG=all tells which it is",
        hang="VK_DRIVER_FILES names the ones to use",
        lacking="--target vulkan asks for least, with --quantization f32 or w4a8",
    )
    variables = ("VK_", "LD_LIBRARY_PATH", "LD_PRELOAD", "HANDGLASS_VULKAN_")

    def load(self, plugin: Path | None) -> None:
        load_vulkan(plugin)

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
