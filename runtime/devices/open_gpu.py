"""Opens a GPU for a bundle: the plug-in, the device that was asked for, whether it will do."""

from __future__ import annotations

from pathlib import Path

from ..bundle.reader import VULKAN_LIBRARY, Bundle
from ..execution.placement import VULKAN, Gpu
from .device_probe import check_listing
from .device_select import DeviceRequest, check_abilities, choose
from .quirks import lost_abilities
from .self_test import check_answers, is_trusted_blindly, known_of
from .self_test_process import DeviceHandle
from .vulkan import VulkanDevice, load_vulkan, vulkan_devices, vulkan_problem


def open_gpu(bundle: Bundle, asked: DeviceRequest, runtime: Path) -> tuple[Gpu, VulkanDevice]:
    """TVM's runtime runs already. DeviceError where no device, or this one, cannot run the code."""
    if not is_trusted_blindly():
        check_listing(runtime, own_library(bundle))
    device = find_gpu(bundle, asked)
    check_abilities(bundle.manifest.target, device, lost_abilities(known_of(device)))
    check_answers(bundle, device, handle_of(bundle, device, runtime))
    return Gpu(VULKAN, device.index), device


def find_gpu(bundle: Bundle, asked: DeviceRequest) -> VulkanDevice:
    load_vulkan(own_library(bundle))
    devices = vulkan_devices()
    return choose(asked, devices, None if devices else vulkan_problem())


def handle_of(bundle: Bundle, device: VulkanDevice, runtime: Path) -> DeviceHandle:
    """Where a process of its own tries the device."""
    return DeviceHandle(VULKAN, device.index, runtime, own_library(bundle))


def own_library(bundle: Bundle) -> Path | None:
    """The plug-in in the bundle, which was hashed when the bundle was opened."""
    if VULKAN_LIBRARY in bundle.manifest.files:
        return bundle.file(VULKAN_LIBRARY).resolve()
    return None
