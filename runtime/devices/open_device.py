"""Opens a device for a bundle: loads the plug-in, selects the device, checks and tests it."""

from __future__ import annotations

from ..bundle.reader import Bundle
from ..execution.placement import Placement
from ..system.shared_library import SharedLibrary
from .device_info import DeviceInfo
from .device_probe import check_listing
from .device_select import DeviceRequest, check_abilities, choose
from .driver import open_driver
from .kinds import KINDS, DeviceKind
from .quirks import lost_abilities
from .self_test import check_answers, is_trusted_blindly, known_of
from .self_test_process import DeviceHandle


def open_device(
    bundle: Bundle, asked: DeviceRequest, runtime: SharedLibrary
) -> tuple[Placement, DeviceInfo]:
    """Open the requested device; TVM's runtime must be loaded.

    Raises DeviceError if there is no such device or it cannot run the bundle correctly.
    """
    kind = KINDS[asked.kind]
    plugin = own_library(bundle, kind)
    if not is_trusted_blindly():
        check_listing(kind, runtime, plugin)
    driver = open_driver(kind)
    device = choose(asked, *driver.find(plugin))
    manifest = bundle.manifest
    lost, less = lost_abilities(known_of(device)), driver.demand_less(manifest)
    check_abilities(manifest.target, device, lost, less)
    check_answers(bundle, device, DeviceHandle(kind.name, device.index, runtime, plugin))
    return driver.open(device.index, manifest.smaller), device


def own_library(bundle: Bundle, kind: DeviceKind) -> SharedLibrary | None:
    """The plug-in in the bundle, or None."""
    if kind.library in bundle.manifest.files:
        return bundle.library(kind.library)
    return None
