"""Devices as a session has them: told to the client, and as the place of a call's arguments.

TVM's runtime runs already. A plug-in is loaded when a request first names a device of its kind, so
that a session on the CPU never touches a driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handglass.errors import InputError

from ..devices.device_info import DeviceInfo
from ..devices.device_select import DeviceRequest, choose
from ..devices.driver import Driver, open_driver
from ..devices.kinds import CPU, KINDS
from ..devices.quirks import lost_abilities
from ..execution.placement import Host, Placement

Plugins = Mapping[str, Path]
"""Kind -> its library, where that is not to be found or built."""


@dataclass(frozen=True)
class DeviceEntry:
    """One device, as `describe` tells it; `index` is N of KIND:N."""

    index: int
    name: str
    driver: str
    abilities: dict[str, int]
    """Without those that its driver is known to get wrong."""


def told_devices(kind: str, plugins: Plugins) -> list[dict[str, Any]]:
    """What there is; DeviceError where there is none, or no way to reach it."""
    driver = open_driver(KINDS[kind])
    found, problem = driver.find(plugins.get(kind))
    choose(DeviceRequest(kind), found, problem)
    return [asdict(_entry(driver, device)) for device in found]


def placement_of(device: str, plugins: Plugins) -> Placement:
    """Of "cpu" or "KIND:N". InputError for another name, DeviceError where it is not there."""
    kind, _, number = device.partition(":")
    if device == CPU:
        return Host()
    if kind == CPU or kind not in KINDS or not re.fullmatch("[0-9]{1,4}", number):
        known = [CPU, *(f"{name}:NUMBER" for name in KINDS if name != CPU)]
        raise InputError(f"device {device!r:.80} must be {' or '.join(known)}")
    driver = open_driver(KINDS[kind])
    chosen = choose(DeviceRequest(kind, number), *driver.find(plugins.get(kind)))
    return driver.open(chosen.index)


def _entry(driver: Driver, device: DeviceInfo) -> DeviceEntry:
    lost = lost_abilities(driver.quirks(device))
    abilities = {name: 0 if name in lost else int(has) for name, has in device.abilities.items()}
    return DeviceEntry(device.index, device.name, device.driver, abilities)
