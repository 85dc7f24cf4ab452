"""Checks of `handglass doctor --device KIND:0`: the driver, the device, and each kernel family.

The driver is only loaded in child processes, because it may crash, hang or report wrong results.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .checks import INSTALL_COMPILER, Check
from .output import size_text

if TYPE_CHECKING:
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.devices.device_info import DeviceInfo
    from handglass.runtime.devices.kinds import DeviceKind
    from handglass.runtime.devices.self_test_process import Finding
    from handglass.runtime.system.shared_library import SharedLibrary


@dataclass(frozen=True)
class Libraries:
    """Libraries that access a device.

    Attributes:
        runtime: TVM's runtime library.
        plugin: The plug-in of the device kind; None to search for it.
    """

    runtime: SharedLibrary
    plugin: SharedLibrary | None


def checks_of_device(device: str | None, bundle: Bundle | None) -> list[Check]:
    """Checks of the requested device; empty for the CPU."""
    from handglass.errors import DeviceError
    from handglass.runtime.devices.device_probe import list_devices
    from handglass.runtime.devices.device_select import choose, parse_device, requested_device
    from handglass.runtime.devices.kinds import CPU, KINDS

    request = requested_device(bundle.manifest.target, device, bundle.path) if bundle else None
    request = request or parse_device(device or CPU)
    kind = KINDS[request.kind]
    if kind.is_host:
        return []
    try:
        libraries = find_libraries(bundle, kind)
        found, problem = list_devices(kind, libraries.runtime, libraries.plugin)
        chosen = choose(request, found, problem)
    except DeviceError as error:
        return [Check(str(request), "cannot be used", False, str(error))]
    others = [Check(one.place, described(one)) for one in found if one != chosen]
    return [*others, *chosen_checks(chosen, bundle, libraries)]


def find_libraries(bundle: Bundle | None, kind: DeviceKind) -> Libraries:
    from handglass.errors import DeviceError
    from handglass.runtime.execution.tvm_runtime import installed_runtime
    from handglass.runtime.system.shared_library import SharedLibrary

    if bundle is not None:
        from handglass.runtime.devices.open_device import own_library
        from handglass.runtime.engine.library import find_runtime

        return Libraries(find_runtime(bundle), own_library(bundle, kind))
    runtime = installed_runtime()
    if runtime is None:
        raise DeviceError("TVM's runtime is not installed: pip install apache-tvm --no-deps")
    return Libraries(SharedLibrary(runtime), None)


def chosen_checks(chosen: DeviceInfo, bundle: Bundle | None, libraries: Libraries) -> list[Check]:
    from handglass.errors import DeviceError

    checks = [Check(chosen.place, described(chosen), True), *quirk_checks(chosen)]
    if bundle is not None:
        checks.append(ability_check(bundle, chosen))
    try:
        findings = try_device(chosen, bundle, libraries)
    except DeviceError as error:
        return [*checks, Check("known answers", "cannot be run", False, str(error))]
    if findings is None:
        source = "the bundle contains none" if bundle else "no bundle was given"
        text = f"not run: {source}, and the compiler is not installed"
        return [
            *checks,
            Check(
                "known answers",
                text,
                None,
                f"to run them, install the compiler: {INSTALL_COMPILER}",
            ),
        ]
    return [*checks, *family_checks(findings, chosen)]


def described(chosen: DeviceInfo) -> str:
    memory = f"{size_text(chosen.memory)}{' shared with the CPU' if chosen.unified_memory else ''}"
    return f"{chosen.name} ({chosen.sort}), {chosen.driver}, {chosen.interface}, {memory}"


def quirk_checks(chosen: DeviceInfo) -> list[Check]:
    """Known driver quirks; a failed check only if the driver must not be used."""
    from handglass.runtime.devices.driver import quirks_of

    return [
        Check(
            "known driver problem",
            f"{quirk.reason} ({quirk.source})",
            False if quirk.broken else None,
            f"handglass does not use: {', '.join(quirk.loses)}" if quirk.loses else "",
        )
        for quirk in quirks_of(chosen)
    ]


def ability_check(bundle: Bundle, chosen: DeviceInfo) -> Check:
    from handglass.errors import DeviceError
    from handglass.runtime.devices.device_select import check_abilities
    from handglass.runtime.devices.driver import open_driver, quirks_of
    from handglass.runtime.devices.kinds import KINDS
    from handglass.runtime.devices.quirks import lost_abilities

    target = bundle.manifest.target
    try:
        less = open_driver(KINDS[chosen.kind]).demand_less(bundle.manifest)
        check_abilities(target, chosen, lost_abilities(quirks_of(chosen)), less)
    except DeviceError as error:
        return Check("abilities", f"not enough for {target.name}", False, str(error))
    return Check("abilities", f"all that {target.name} needs", True)


def try_device(
    chosen: DeviceInfo, bundle: Bundle | None, libraries: Libraries
) -> list[Finding] | None:
    """Run the bundle's known answers, or newly compiled ones; None if neither is available."""
    from handglass.runtime.devices.self_test import try_bundle
    from handglass.runtime.devices.self_test_process import DeviceHandle, try_cases
    from handglass.runtime.execution.known_answers import CASES

    from .checks import has_compiler

    place = DeviceHandle(chosen.kind, chosen.index, libraries.runtime, libraries.plugin)
    if bundle is not None and CASES in bundle.manifest.files:
        return try_bundle(bundle, chosen, place)
    if not has_compiler():
        return None
    from handglass.compiler.parity.known_answers import known_answers
    from handglass.targets.codegen.kinds import generator_for

    target = generator_for(chosen.kind).target_of(chosen)
    with TemporaryDirectory(prefix="handglass-known-") as folder:
        known_answers(target).write(Path(folder))
        return try_cases(Path(folder), place)


def family_checks(findings: list[Finding], chosen: DeviceInfo) -> list[Check]:
    """One check per kernel family: the distinct results, or those that failed."""
    from handglass.runtime.devices.self_test import WHAT_TO_DO
    from handglass.runtime.devices.self_test_process import by_family

    checks = []
    for family, rows in by_family(findings).items():
        failed = [f"{row.name}: {row.words}" for row in rows if not row.ok]
        worst = "; ".join(failed) or ", ".join(dict.fromkeys(row.words for row in rows))
        checks.append(Check(family, worst, not failed))
    if any(not check.ok for check in checks):
        checks.append(Check(chosen.place, "computes wrong results", False, WHAT_TO_DO))
    return checks
