"""What `handglass doctor --device vulkan:0` looks at: driver, device, and one line per family of
kernels. This process never touches the driver: it may crash, hang or lie.
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
    from handglass.runtime.devices.device_select import DeviceRequest
    from handglass.runtime.devices.self_test_process import Finding
    from handglass.runtime.devices.vulkan import VulkanDevice


@dataclass(frozen=True)
class Libraries:
    """What reaches a device: TVM's runtime and our plug-in, None where it is to be found."""

    runtime: Path
    plugin: Path | None


def vulkan_checks(device: str | None, bundle: Bundle | None) -> list[Check]:
    """Everything about the device that is asked for; nothing where that is a CPU."""
    from handglass.errors import DeviceError
    from handglass.runtime.devices.device_probe import list_devices
    from handglass.runtime.devices.device_select import choose, parse_device, requested_device

    asked = requested_device(bundle.manifest.target, device, bundle.path) if bundle else None
    asked = asked or parse_device(device or "cpu")
    if asked.kind == "cpu":
        return []
    try:
        libraries = find_libraries(bundle)
        found, problem = list_devices(libraries.runtime, libraries.plugin)
        gpu = choose(asked, found, problem)
    except DeviceError as error:
        return [Check(str(asked), "cannot be used", False, str(error))]
    others = [Check(f"vulkan:{one.index}", described(one)) for one in found if one != gpu]
    return [*others, *gpu_checks(asked, gpu, bundle, libraries)]


def find_libraries(bundle: Bundle | None) -> Libraries:
    from handglass.errors import DeviceError
    from handglass.runtime.execution.tvm_runtime import installed_runtime

    if bundle is not None:
        from handglass.runtime.devices.open_gpu import own_library
        from handglass.runtime.engine.library import find_runtime

        return Libraries(find_runtime(bundle), own_library(bundle))
    runtime = installed_runtime()
    if runtime is None:
        raise DeviceError("TVM's runtime is not installed: pip install apache-tvm --no-deps")
    return Libraries(runtime, None)


def gpu_checks(
    asked: DeviceRequest, gpu: VulkanDevice, bundle: Bundle | None, libraries: Libraries
) -> list[Check]:
    from handglass.errors import DeviceError

    name = f"vulkan:{gpu.index}"
    found = [Check(name, described(gpu), True), *quirk_checks(gpu)]
    if bundle is not None:
        found.append(ability_check(bundle, gpu))
    try:
        findings = try_device(gpu, bundle, libraries)
    except DeviceError as error:
        return [*found, Check("known answers", "could not be tried", False, str(error))]
    if findings is None:
        words = f"not tried: {'the' if bundle else 'no'} bundle has none, and no compiler is here"
        return [*found, Check("known answers", words, None, f"to try them: {INSTALL_COMPILER}")]
    return [*found, *family_checks(findings, gpu)]


def described(gpu: VulkanDevice) -> str:
    from handglass.runtime.devices.device_select import driver_of

    memory = f"{size_text(gpu.memory)}{' shared with the CPU' if gpu.unified_memory else ''}"
    return f"{gpu.name} ({gpu.kind}), {driver_of(gpu)}, Vulkan {gpu.api_version}, {memory}"


def quirk_checks(gpu: VulkanDevice) -> list[Check]:
    """What is known of the driver: a fact, unless nothing may run there."""
    from handglass.runtime.devices.quirks import quirks_of

    return [
        Check(
            "known of its driver",
            f"{quirk.reason} ({quirk.source})",
            False if quirk.broken else None,
            f"not used: {', '.join(quirk.loses)}" if quirk.loses else "",
        )
        for quirk in quirks_of(gpu)
    ]


def ability_check(bundle: Bundle, gpu: VulkanDevice) -> Check:
    from handglass.errors import DeviceError
    from handglass.runtime.devices.device_select import check_abilities
    from handglass.runtime.devices.quirks import lost_abilities, quirks_of

    target = bundle.manifest.target
    try:
        check_abilities(target, gpu, lost_abilities(quirks_of(gpu)))
    except DeviceError as error:
        return Check("abilities", f"not what code for {target.name} uses", False, str(error))
    return Check("abilities", f"all that code for {target.name} uses", True)


def try_device(
    gpu: VulkanDevice, bundle: Bundle | None, libraries: Libraries
) -> list[Finding] | None:
    """The bundle's known answers, or those that a compiler makes here; None without both."""
    from handglass.runtime.devices.self_test import try_bundle
    from handglass.runtime.devices.self_test_process import DeviceHandle, try_cases
    from handglass.runtime.execution.known_answers import CASES

    from .checks import has_compiler

    place = DeviceHandle("vulkan", gpu.index, libraries.runtime, libraries.plugin)
    if bundle is not None and CASES in bundle.manifest.files:
        return try_bundle(bundle, gpu, place)
    if not has_compiler():
        return None
    from handglass.compiler.parity.known_answers import known_answers
    from handglass.targets.codegen import vulkan
    from handglass.targets.codegen.vulkan.detection import target_of

    vulkan.enable()
    with TemporaryDirectory(prefix="handglass-known-") as folder:
        known_answers(target_of(gpu)).write(Path(folder))
        return try_cases(Path(folder), place)


def family_checks(findings: list[Finding], gpu: VulkanDevice) -> list[Check]:
    """One line each: ok with the least precise result, or the first that failed."""
    from handglass.runtime.devices.self_test import WHAT_TO_DO
    from handglass.runtime.devices.self_test_process import by_family

    checks = []
    for family, rows in by_family(findings).items():
        failed = [f"{row.name}: {row.words}" for row in rows if not row.ok]
        worst = "; ".join(failed) or ", ".join(dict.fromkeys(row.words for row in rows))
        checks.append(Check(family, worst, not failed))
    if any(not check.ok for check in checks):
        checks.append(Check(f"vulkan:{gpu.index}", "not to be trusted", False, WHAT_TO_DO))
    return checks
