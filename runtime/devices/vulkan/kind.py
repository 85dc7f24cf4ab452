"""Vulkan as a device kind: the implementation of driver.py."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...bundle.manifest import Manifest
from ...system.shared_library import SharedLibrary
from ..device_info import DeviceInfo
from ..driver import Driver, Hints
from .devices import vulkan_devices, vulkan_problem, vulkan_statistics
from .plugin import VULKAN
from .quirks import VulkanQuirk, quirks_of

MANIFESTS = ("/usr/share", "/usr/local/share", "/etc", "/etc/xdg", "~/.local/share", "~/.config")
"""Folders in which the Vulkan loader looks for vulkan/icd.d and the folders of layers."""

LOWEST = "vulkan"
"""The target with the lowest requirements."""
FEW = "w4a8"
"""The scheme with the lowest requirements, but for f32."""


class VulkanDriver(Driver):
    hints = Hints(
        absent="install a driver (for Mesa, mesa-vulkan-drivers in Debian; vendors provide their "
        "own), check VK_DRIVER_FILES if it is set, and run 'handglass doctor'; a bundle "
        "compiled for a CPU needs no driver",
        crash="set VK_DRIVER_FILES to the drivers to use; VK_LOADER_DEBUG=all shows which crashes",
        hang="set VK_DRIVER_FILES to the drivers to use",
        lacking="a bundle compiled for a CPU needs no driver",
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

    def demand_less(self, manifest: Manifest) -> str:
        """The options with the lowest requirements, without those that the bundle has."""
        schemes = set(manifest.scheme.values())
        options = [f"--target {LOWEST}"] if manifest.target.name != LOWEST else []
        if schemes != {"f32"}:
            options.append(f"--quantization f32{'' if schemes <= {'f32', FEW} else f' or {FEW}'}")
        if manifest.state.cache_dtype != "float32":
            options.append("--kv-cache f32")
        return f"less is required by {', '.join(options)}" if options else self.hints.lacking

    def driver_files(self) -> Iterator[Path]:
        """The manifests of drivers and layers."""
        for folder in MANIFESTS:
            yield from Path(os.path.expanduser(folder), "vulkan").glob("*.d/*.json")  # noqa: PTH111


DRIVER = VulkanDriver
