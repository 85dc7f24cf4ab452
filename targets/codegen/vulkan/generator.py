"""The Vulkan implementation of the `Generator` interface of codegen/kinds.py."""

from __future__ import annotations

from pathlib import Path

from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.vulkan import VULKAN

from ...target import Target
from ..kinds import Generator
from ..plugin import plugin_for
from .detection import detected_target, target_of
from .enable import enable


class VulkanGenerator(Generator):
    def prepare(self, target: Target) -> None:
        enable()

    def plugin_for(self, target: Target, needed: bool) -> Path | None:
        return plugin_for(VULKAN.recipe, target, needed)

    def detected_target(self) -> Target:
        return detected_target()

    def target_of(self, device: DeviceInfo) -> Target:
        return target_of(device)


GENERATOR = VulkanGenerator
