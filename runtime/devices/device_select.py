"""Selects the device of a bundle: parses --device, matches devices, checks capabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from handglass.errors import DeviceError, MismatchError, UsageError

from ..bundle.entries import TargetEntry
from ..bundle.requirements import missing_capabilities
from .device_info import DeviceInfo
from .driver import open_driver
from .kinds import KINDS, device_names


@dataclass(frozen=True)
class DeviceRequest:
    """A value of --device; `which` is an index, part of a name, or empty for the first device."""

    kind: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.which}" if self.which else self.kind


def parse_device(text: str) -> DeviceRequest:
    """Parse cpu, KIND, KIND:NUMBER or KIND:NAME. Raises UsageError for anything else."""
    kind, colon, which = text.partition(":")
    if kind not in KINDS or (KINDS[kind].is_host and colon) or (colon and not which.strip()):
        raise UsageError(f"--device {text!r:.80}: must be {device_names()}")
    return DeviceRequest(kind, which.strip())


def requested_device(target: TargetEntry, device: str | None, where: object) -> DeviceRequest:
    """The device to run a bundle on: `device`, or by default any of the bundle's kind.

    Raises MismatchError if the bundle is compiled for another kind, UsageError for a bad `device`.
    """
    if target.device not in KINDS:
        raise MismatchError(
            f"{where}: the bundle is compiled for devices of the kind '{target.device}' (target "
            f"{target.name}), this handglass supports {', '.join(KINDS)}; update handglass"
        )
    if device is None:
        return DeviceRequest(target.device)
    request = parse_device(device)
    if request.kind != target.device:
        compiled, other = KINDS[target.device].label, KINDS[request.kind].label
        raise MismatchError(
            f"{where}: the bundle is compiled for {compiled} (target {target.name}), "
            f"--device {device} is {other}; compile for {other}, or omit --device"
        )
    return request


def choose(
    asked: DeviceRequest, devices: Sequence[DeviceInfo], problem: str | None = None
) -> DeviceInfo:
    """The requested one of `devices`; `problem` says why there are none.

    Raises DeviceError, with a list of all devices, unless exactly one matches.
    """
    if not devices:
        kind, why = KINDS[asked.kind], problem or "no driver lists one"
        hint = open_driver(kind).hints.absent
        raise DeviceError(f"no {kind.label} device was found ({why}): {hint}")
    if not asked.which:
        return devices[0]
    if re.fullmatch("[0-9]+", asked.which):
        matches = [device for device in devices if device.index == int(asked.which)]
    else:
        matches = [device for device in devices if asked.which.lower() in device.name.lower()]
    if not matches:
        raise DeviceError(f"no device matches {asked}; available: {listed(devices)}")
    if len(matches) > 1:
        raise DeviceError(
            f"more than one device matches {asked}: {listed(matches)}; use KIND:NUMBER"
        )
    return matches[0]


def listed(devices: Sequence[DeviceInfo]) -> str:
    return ", ".join(map(str, devices))


def check_abilities(
    target: TargetEntry, device: DeviceInfo, lost: frozenset[str], less: str = ""
) -> None:
    """Raise DeviceError, with a sentence per missing capability, if the device lacks any.

    `lost` are capabilities that the device claims but its driver is known to get wrong, `less` is
    advice (`Driver.demand_less`), by default that of the kind.
    """
    driver = open_driver(KINDS[device.kind])
    lacking = missing_capabilities(target.abilities, device.abilities, lost)
    lacking += filter(None, [driver.unfit(target.images, device)])
    if lacking:
        hint = less or driver.hints.lacking
        raise DeviceError(
            f"the bundle is compiled for {target.name} and cannot run on {device}: "
            f"{'; '.join(lacking)}; compile with a target and a scheme that fit the device ({hint})"
        )
