"""The GPU of this machine as a target: the driver's report without known defects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from handglass.errors import DeviceError
from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.system.hardware import read_machine

from ...gpu import Shape
from ...presets.gpu import host_beside_gpu, with_gpu
from ...target import Target, host_name
from .gpu import REDUCTIONS, VulkanCapabilities

DETECTED = host_name(VulkanCapabilities.kind)
MOST_THREADS = 1024
"""Largest workgroup in threads; more threads would only wait for each other."""


def detected_target() -> Target:
    """The target of this machine's first GPU. Raises DeviceError if there is none."""
    from handglass.runtime.devices.vulkan import vulkan_devices, vulkan_problem

    devices = vulkan_devices()
    if not devices:
        raise DeviceError(
            f"target '{DETECTED}': {vulkan_problem()}; name a GPU to compile for instead, for "
            "example --target vulkan, which fits nearly all GPUs"
        )
    return target_of(devices[0])


def target_of(device: DeviceInfo) -> Target:
    """The target that describes a device; its tuning records apply to devices of the same name."""
    from handglass.runtime.devices.quirks import lost_abilities
    from handglass.runtime.devices.vulkan.quirks import quirks_of

    gpu = gpu_of(device, lost_abilities(quirks_of(device)))
    host = host_beside_gpu(read_machine())
    target = with_gpu(host, DETECTED, f"this machine's {device.name}", gpu)
    slug = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")[:40].strip("-")
    return replace(target, memory_limit=device.memory or None, same_code_as=f"vulkan-{slug}")


def gpu_of(device: DeviceInfo, lost: frozenset[str] = frozenset()) -> VulkanCapabilities:
    """The capabilities of a device, without the abilities in `lost`."""
    taken = {name: False for name in lost if name.startswith("supports_")}
    has = {name: value for name, value in device.abilities.items() if name not in lost} | taken
    size = _size(has)
    names = [field.name for field in fields(VulkanCapabilities)]
    known: dict[str, Any] = {name: has[name] for name in names if name in has}
    known |= {
        "supported_subgroup_operations": _reductions(has),
        "cooperative_matrix": _matrix(device) if size and _has_matrices(has) else None,
        "subgroup_size": size,
        "max_threads_per_block": min(has["max_threads_per_block"], MOST_THREADS),
    }
    return VulkanCapabilities(**known)


def _reductions(has: Mapping[str, int]) -> int:
    """All operations that reductions across a subgroup need, or 0 if one is missing."""
    operations = has.get("supported_subgroup_operations", 0)
    return REDUCTIONS if operations & REDUCTIONS == REDUCTIONS else 0


def _size(has: Mapping[str, int]) -> int | None:
    """The default number of threads of a subgroup, if a kernel can request it."""
    usual = has.get("subgroup_size", 0)
    return usual if usual & has.get("subgroup_sizes", 0) else None


def _has_matrices(has: Mapping[str, int]) -> bool:
    return bool(has["supports_cooperative_matrix"])


def _matrix(device: DeviceInfo) -> Shape | None:
    """The largest matrix shape of float16 x float16 -> float32, the types that schedules use."""
    from handglass.runtime.devices.vulkan.devices import matrices_of

    shapes = [
        (each.m, each.n, each.k)
        for each in matrices_of(device)
        if (each.a, each.b, each.c, each.result) == ("f16", "f16", "f32", "f32")
        and each.scope == "subgroup"
    ]
    return max(shapes, default=None, key=lambda shape: shape[0] * shape[1] * shape[2])
