"""Which device a bundle runs on: what was asked for, what there is, what the code needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handglass.errors import DeviceError, MismatchError, UsageError

from ..bundle.entries import TargetEntry
from ..bundle.requirements import missing_capabilities
from ..execution.placement import CPU, VULKAN

if TYPE_CHECKING:
    from .vulkan import VulkanDevice

KINDS = (CPU, VULKAN)
NO_DEVICE = (
    "install a driver (Mesa's is called mesa-vulkan-drivers in Debian; vendors bring their own), "
    "check VK_DRIVER_FILES if it is set, and look at 'handglass doctor'; a bundle that is compiled "
    "for a CPU needs none"
)


@dataclass(frozen=True)
class DeviceRequest:
    """`which`: a number, part of a name, or nothing for the first one."""

    kind: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.which}" if self.which else self.kind


def parse_device(text: str) -> DeviceRequest:
    """cpu, vulkan, vulkan:NUMBER or vulkan:NAME; UsageError for anything else."""
    kind, colon, which = text.partition(":")
    if kind not in KINDS or (kind == CPU and colon) or (colon and not which.strip()):
        raise UsageError(
            f"--device {text!r:.80}: must be cpu, vulkan, vulkan:NUMBER or vulkan:PART-OF-ITS-NAME"
        )
    return DeviceRequest(kind, which.strip())


def requested_device(target: TargetEntry, device: str | None, where: object) -> DeviceRequest:
    """What to run a bundle on; MismatchError where its code is for another kind of device."""
    if device is None:
        return DeviceRequest(target.device)
    asked = parse_device(device)
    if asked.kind != target.device:
        raise MismatchError(
            f"{where}: the bundle is compiled for {_called(target.device)} (target {target.name}), "
            f"--device {device} is {_called(asked.kind)}; compile it for that, or leave --device "
            "out"
        )
    return asked


def choose(
    asked: DeviceRequest, devices: Sequence[VulkanDevice], problem: str | None = None
) -> VulkanDevice:
    """The one that is meant; DeviceError, with a list of all, where there is no such."""
    if not devices:
        why = problem or "no driver has one"
        raise DeviceError(f"no Vulkan device was found ({why}): {NO_DEVICE}")
    if not asked.which:
        return devices[0]
    if re.fullmatch("[0-9]+", asked.which):
        found = [device for device in devices if device.index == int(asked.which)]
    else:
        found = [device for device in devices if asked.which.lower() in device.name.lower()]
    if not found:
        raise DeviceError(f"there is no device {asked}; there are: {listed(devices)}")
    if len(found) > 1:
        raise DeviceError(f"more than one device is meant by {asked}: {listed(found)}")
    return found[0]


def driver_of(device: VulkanDevice) -> str:
    """Name and version, as its maker writes them."""
    return " ".join(filter(None, [device.driver_name, device.driver_info]))


def listed(devices: Sequence[VulkanDevice]) -> str:
    return ", ".join(f"vulkan:{device.index} ({device.name})" for device in devices)


def check_abilities(target: TargetEntry, device: VulkanDevice, lost: frozenset[str]) -> None:
    """DeviceError with a sentence about everything that the code needs and the device lacks.

    `lost` are abilities that the device claims and that its driver is known to get wrong.
    """
    if lacking := missing_capabilities(target.abilities, device.abilities, lost):
        raise DeviceError(
            f"the bundle is compiled for {target.name} and cannot run on vulkan:{device.index} "
            f"({device.name}): {'; '.join(lacking)}; compile with a target and a "
            "scheme that fit it (--target vulkan asks for least, with --quantization f32 or w4a8)"
        )


def _called(kind: str) -> str:
    return {CPU: "a CPU", VULKAN: "Vulkan"}[kind]
