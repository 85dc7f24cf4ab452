"""Opens a device for a bundle: the plug-in, the one that was asked for, whether it will do."""

from __future__ import annotations

from pathlib import Path

from ..bundle.reader import Bundle
from ..execution.placement import Placement
from .device_info import DeviceInfo
from .device_probe import check_listing
from .device_select import DeviceRequest, check_abilities, choose
from .driver import open_driver
from .kinds import KINDS, DeviceKind
from .quirks import lost_abilities
from .self_test import check_answers, is_trusted_blindly, known_of
from .self_test_process import DeviceHandle


def open_device(
    bundle: Bundle, asked: DeviceRequest, runtime: Path
) -> tuple[Placement, DeviceInfo]:
    """TVM's runtime runs already. DeviceError where no device, or this one, cannot run the code."""
    kind = KINDS[asked.kind]
    plugin = own_library(bundle, kind)
    if not is_trusted_blindly():
        check_listing(kind, runtime, plugin)
    driver = open_driver(kind)
    device = choose(asked, *driver.find(plugin))
    check_abilities(bundle.manifest.target, device, lost_abilities(known_of(device)))
    check_answers(bundle, device, DeviceHandle(kind.name, device.index, runtime, plugin))
    return driver.open(device.index), device


def own_library(bundle: Bundle, kind: DeviceKind) -> Path | None:
    """The plug-in in the bundle, which was hashed when the bundle was opened."""
    if kind.library in bundle.manifest.files:
        return bundle.file(kind.library).resolve()
    return None
