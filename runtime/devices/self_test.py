"""Decides whether a device may run a bundle: known driver bugs, and a self-test.

The self-test runs the bundle's known-answer cases once per device, driver and bundle. A pass is
cached; a failure is not, so that the test runs again after the user has changed something.
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
"""1: skip the self-test and ignore known driver bugs."""
OUT_OF_MEMORY = "out of memory"
"""Part of our plug-ins' error message; such a failure says nothing about the driver."""
WHAT_TO_DO = (
    "update the driver, choose another device with --device, or use a bundle that is compiled for "
    f"a CPU; 'handglass doctor BUNDLE --device ...' shows details, {VARIABLE}=1 runs it anyway"
)


def is_trusted_blindly() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")


def known_of(device: DeviceInfo) -> tuple[Quirk, ...]:
    """The known bugs of the device's driver. Raises DeviceError if it is marked as broken."""
    if is_trusted_blindly():
        return ()
    quirks = quirks_of(device)
    for quirk in quirks:
        if quirk.broken:
            raise DeviceError(
                f"{_label(device)} is known to be broken: "
                f"{quirk.reason} ({quirk.source}); {WHAT_TO_DO}"
            )
    return quirks


def check_answers(bundle: Bundle, device: DeviceInfo, place: DeviceHandle) -> None:
    """Run the self-test unless it is cached as passed. Raises DeviceError if it fails."""
    if CASES not in bundle.manifest.files or is_trusted_blindly():
        return
    if read_cached(verdict_file(bundle, device)).get("ok") is not True:
        refuse(try_bundle(bundle, device, place), device)


def try_bundle(bundle: Bundle, device: DeviceInfo, place: DeviceHandle) -> list[Finding]:
    """Run the self-test; a pass is cached."""
    file = verdict_file(bundle, device)
    drop_cached(file)
    hashes = {name: entry.sha256 for name, entry in bundle.manifest.files.items()}
    findings = try_cases(bundle.path, place, hashes=hashes)
    if all(finding.ok for finding in findings):
        write_cached(file, {"ok": True, "device": device.name, "driver": device.driver})
    return findings


def refuse(findings: Sequence[Finding], device: DeviceInfo) -> None:
    """Raise DeviceError, naming the families of kernels that failed, unless all cases passed."""
    failed = by_family([f for f in findings if not f.ok and f.words != NOT_TRIED])
    if not failed:
        return
    failures = [f"{name} ({rows[0].words})" for name, rows in failed.items()]
    if all(OUT_OF_MEMORY in rows[0].words for rows in failed.values()):
        raise DeviceError(
            f"{_label(device)} cannot run the self-test: {failures[0]}; "
            "close other programs that use the device"
        )
    left = by_family([f for f in findings if f.words == NOT_TRIED]).keys() - failed.keys()
    if left:
        failures.append(f"{len(left)} more kernel families were not run")
    raise DeviceError(f"{_label(device)} fails the self-test: {'; '.join(failures)}; {WHAT_TO_DO}")


def verdict_file(bundle: Bundle, device: DeviceInfo) -> Path:
    """The cache file; its name depends on device, driver, handglass version and tested files."""
    files = bundle.manifest.files
    hashes = [files[n].sha256 for n in (LIBRARY, CASES, ANSWERS, CHECKS_LIBRARY) if n in files]
    driver = [device.uuid, device.driver_key, device.driver, device.interface]
    text = json.dumps([driver, hashes, __version__])
    name = hashlib.sha256(text.encode()).hexdigest()
    return cache_folder(device.kind) / "verdicts" / f"{name}.json"


def _label(device: DeviceInfo) -> str:
    return f"{device.place} ({device.name}, {device.driver})"
