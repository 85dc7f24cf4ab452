"""Whether a device may be trusted with a bundle: what is known of its driver, and a trial.

The known answers of a bundle are tried once per device, driver and bundle; that it passed is
remembered in the cache. That it failed is not: whoever has mended something tries again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from handglass import __version__
from handglass.errors import DeviceError

from ..bundle.reader import LIBRARY, Bundle
from ..execution.known_answers import ANSWERS, CASES, CHECKS_LIBRARY
from ..system.user_cache import cache_folder, drop_cached, read_cached, write_cached
from .device_info import DeviceInfo
from .driver import quirks_of
from .quirks import Quirk
from .self_test_process import NOT_TRIED, DeviceHandle, Finding, by_family, try_cases

VARIABLE = "HANDGLASS_TRUST_DRIVER"
"""1: no trial, and nothing that is known of a driver is held against it."""
OUT_OF_MEMORY = "out of memory"
"""In the words of our plug-ins: says nothing about the driver."""
WHAT_TO_DO = (
    "update the driver, choose another device with --device, or use a bundle that is compiled for "
    f"a CPU; 'handglass doctor BUNDLE --device ...' shows more, {VARIABLE}=1 runs it all the same"
)


def is_trusted_blindly() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")


def known_of(device: DeviceInfo) -> tuple[Quirk, ...]:
    """What is held against the device. DeviceError where nothing is to be run there."""
    if is_trusted_blindly():
        return ()
    quirks = quirks_of(device)
    for quirk in quirks:
        if quirk.broken:
            raise DeviceError(
                f"{_called(device)} is known to be broken: "
                f"{quirk.reason} ({quirk.source}); {WHAT_TO_DO}"
            )
    return quirks


def check_answers(bundle: Bundle, device: DeviceInfo, place: DeviceHandle) -> None:
    """DeviceError where the device does not come to the answers that the bundle knows."""
    if CASES not in bundle.manifest.files or is_trusted_blindly():
        return
    if read_cached(verdict_file(bundle, device)).get("ok") is not True:
        refuse(try_bundle(bundle, device, place), device)


def try_bundle(bundle: Bundle, device: DeviceInfo, place: DeviceHandle) -> list[Finding]:
    """The trial itself; what comes of it is remembered."""
    file = verdict_file(bundle, device)
    drop_cached(file)
    findings = try_cases(bundle.path, place)
    if all(finding.ok for finding in findings):
        write_cached(file, {"ok": True, "device": device.name, "driver": device.driver})
    return findings


def refuse(findings: Sequence[Finding], device: DeviceInfo) -> None:
    """DeviceError that says which families of kernels failed and how."""
    failed = by_family([f for f in findings if not f.ok and f.words != NOT_TRIED])
    if not failed:
        return
    words = [f"{name} ({rows[0].words})" for name, rows in failed.items()]
    if all(OUT_OF_MEMORY in rows[0].words for rows in failed.values()):
        raise DeviceError(
            f"{_called(device)} could not be tried: {words[0]}; close what else uses the device"
        )
    left = by_family([f for f in findings if f.words == NOT_TRIED]).keys() - failed.keys()
    if left:
        words.append(f"{len(left)} more kinds of kernels not tried after that")
    raise DeviceError(
        f"{_called(device)} does not compute what it should: {'; '.join(words)}; {WHAT_TO_DO}"
    )


def verdict_file(bundle: Bundle, device: DeviceInfo) -> Path:
    """A name that changes with the device, its driver, this program and what is tried."""
    files = bundle.manifest.files
    hashes = [files[n].sha256 for n in (LIBRARY, CASES, ANSWERS, CHECKS_LIBRARY) if n in files]
    driver = [device.uuid, device.driver_key, device.driver, device.interface]
    text = json.dumps([driver, hashes, __version__])
    name = hashlib.sha256(text.encode()).hexdigest()
    return cache_folder(device.kind) / "verdicts" / f"{name}.json"


def _called(device: DeviceInfo) -> str:
    return f"{device.place} ({device.name}, {device.driver})"
