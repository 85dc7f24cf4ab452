"""The devices of a session: listed for the client, and as placements of arguments.

TVM's runtime must be loaded. A plug-in is loaded when a request first names a device of its kind,
so a session on the CPU never loads a driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from handglass.errors import InputError

from ..devices.device_info import DeviceInfo
from ..devices.device_select import DeviceRequest, choose
from ..devices.driver import Driver, open_driver
from ..devices.kinds import CPU, KINDS
from ..devices.quirks import lost_abilities
from ..execution.placement import Host, Placement
from ..system.shared_library import SharedLibrary

Plugins = Mapping[str, SharedLibrary]
"""Kind -> plug-in library; a kind without an entry finds or builds its library."""


@dataclass(frozen=True)
class DeviceEntry:
    """One device in the answer to `describe`; `index` is N of KIND:N."""

    index: int
    name: str
    driver: str
    abilities: dict[str, int]
    """Capabilities; 0 for those that the driver is known to get wrong."""


def device_entries(kind: str, plugins: Plugins) -> list[dict[str, Any]]:
    """The devices of a kind, for `describe`. Raises DeviceError if there is none."""
    driver = open_driver(KINDS[kind])
    devices, problem = driver.find(plugins.get(kind))
    choose(DeviceRequest(kind), devices, problem)
    return [asdict(_entry(driver, device)) for device in devices]


def placement_of(device: str, plugins: Plugins) -> Placement:
    """The placement of "cpu" or "KIND:N".

    Raises InputError for another name, DeviceError if there is no such device.
    """
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
