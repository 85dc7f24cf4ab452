"""Which device a bundle runs on: what was asked for, what there is, what the code needs."""

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
    """`which`: a number, part of a name, or nothing for the first one."""

    kind: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.which}" if self.which else self.kind


def parse_device(text: str) -> DeviceRequest:
    """cpu, KIND, KIND:NUMBER or KIND:NAME; UsageError for anything else."""
    kind, colon, which = text.partition(":")
    if kind not in KINDS or (KINDS[kind].is_host and colon) or (colon and not which.strip()):
        raise UsageError(f"--device {text!r:.80}: must be {device_names()}")
    return DeviceRequest(kind, which.strip())


def requested_device(target: TargetEntry, device: str | None, where: object) -> DeviceRequest:
    """What to run a bundle on; MismatchError where its code is for another kind of device."""
    if target.device not in KINDS:
        raise MismatchError(
            f"{where}: the bundle is compiled for devices of the kind '{target.device}' (target "
            f"{target.name}), this handglass knows {', '.join(KINDS)}; update it"
        )
    if device is None:
        return DeviceRequest(target.device)
    asked = parse_device(device)
    if asked.kind != target.device:
        mine, other = KINDS[target.device].label, KINDS[asked.kind].label
        raise MismatchError(
            f"{where}: the bundle is compiled for {mine} (target {target.name}), --device {device} "
            f"is {other}; compile it for that, or leave --device out"
        )
    return asked


def choose(
    asked: DeviceRequest, devices: Sequence[DeviceInfo], problem: str | None = None
) -> DeviceInfo:
    """The one that is meant; DeviceError, with a list of all, where there is no such."""
    if not devices:
        kind, why = KINDS[asked.kind], problem or "no driver has one"
        hint = open_driver(kind).hints.absent
        raise DeviceError(f"no {kind.label} device was found ({why}): {hint}")
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


def listed(devices: Sequence[DeviceInfo]) -> str:
    return ", ".join(map(str, devices))


def check_abilities(target: TargetEntry, device: DeviceInfo, lost: frozenset[str]) -> None:
    """DeviceError with a sentence about everything that the code needs and the device lacks.

    `lost` are abilities that the device claims and that its driver is known to get wrong.
    """
    if lacking := missing_capabilities(target.abilities, device.abilities, lost):
        hint = open_driver(KINDS[device.kind]).hints.lacking
        raise DeviceError(
            f"the bundle is compiled for {target.name} and cannot run on {device}: "
            f"{'; '.join(lacking)}; compile with a target and a scheme that fit it ({hint})"
        )
