"""Opens a GPU for a bundle: the plug-in, the device that was asked for, what it must be able to."""

from __future__ import annotations

from pathlib import Path

from .bundle import VULKAN_LIBRARY, Bundle
from .choice import Asked, check_abilities, choose
from .placement import VULKAN, Gpu
from .vulkan import VulkanDevice, load_vulkan, vulkan_devices


def open_gpu(bundle: Bundle, asked: Asked) -> tuple[Gpu, VulkanDevice]:
    """TVM's runtime runs already. DeviceError where no device, or this one, cannot run the code."""
    load_vulkan(own_library(bundle))
    device = choose(asked, vulkan_devices())
    check_abilities(bundle.manifest.target, device, frozenset())
    return Gpu(VULKAN, device.index), device


def own_library(bundle: Bundle) -> Path | None:
    """The plug-in in the bundle, which was hashed when the bundle was opened."""
    if VULKAN_LIBRARY in bundle.manifest.files:
        return bundle.file(VULKAN_LIBRARY).resolve()
    return None
