"""Lists the Vulkan devices of this machine as their drivers describe them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..device_info import Ability, DeviceInfo
from .plugin import VULKAN


@dataclass(frozen=True)
class Matrix:
    """A cooperative matrix shape: a (m, k) * b (k, n) + c (m, n); types such as "f16", "s8"."""

    m: int
    n: int
    k: int
    a: str
    b: str
    c: str
    result: str
    saturating: bool
    scope: str  # "subgroup", "workgroup", ...


def vulkan_devices() -> list[DeviceInfo]:
    """The devices of this machine; empty if there is no driver (`vulkan_problem()` says why).

    Raises DeviceError if the plug-in is missing or the environment names a device that does not
    exist.
    """
    return [_device(index, report) for index, report in enumerate(_described()["devices"])]


def vulkan_problem() -> str | None:
    """Why there are no devices; None if there are."""
    return _described()["problem"] or None


def vulkan_statistics(device: int = 0) -> dict[str, Any]:
    """Counters since the device was opened (opens it if necessary): live_bytes, peak_bytes,
    live_buffers, blocks, launches, submits, pipelines, ... Raises DeviceError if there is none."""
    return VULKAN.ask("statistics", device)


def _described() -> dict[str, Any]:
    return VULKAN.ask("devices")


def matrices_of(device: DeviceInfo) -> tuple[Matrix, ...]:
    """The cooperative matrix shapes that the device supports."""
    return tuple(_matrix(each) for each in device.report["cooperative_matrices"])


def _device(index: int, report: dict[str, Any]) -> DeviceInfo:
    """Build a DeviceInfo; `memory` is the largest device-local heap."""
    local = [heap["bytes"] for heap in report["heaps"] if heap["device_local"]]
    key = ("vendor_id", "device_id", "driver_id", "driver_version")
    return DeviceInfo(
        kind="vulkan",
        index=index,
        name=report["name"],
        sort=report["device_type"],
        uuid=report["uuid"],
        driver=" ".join(filter(None, [report["driver_name"], report["driver_info"]])),
        driver_key=" ".join(str(report[name]) for name in key),
        interface=f"Vulkan {report['api_version']}",
        memory=max(local, default=0),
        unified_memory=report["unified_memory"],
        abilities=_abilities(report),
        report=report,
    )


def _abilities(report: dict[str, Any]) -> dict[str, Ability]:
    """Capabilities, named after TVM's target attributes where these exist."""
    features, limits, subgroup = report["features"], report["limits"], report["subgroup"]
    size = limits["max_workgroup_size"]
    return {
        "supports_float16": features["shaderFloat16"],
        "supports_float32": True,
        "supports_float64": features["shaderFloat64"],
        "supports_int8": features["shaderInt8"],
        "supports_int16": features["shaderInt16"],
        "supports_int32": True,
        "supports_int64": features["shaderInt64"],
        "supports_8bit_buffer": features["storageBuffer8BitAccess"],
        "supports_16bit_buffer": features["storageBuffer16BitAccess"],
        "supports_storage_buffer_storage_class": True,
        "supports_push_descriptor": features["pushDescriptor"],
        "supports_integer_dot_product": features["shaderIntegerDotProduct"],
        "supports_cooperative_matrix": features["cooperativeMatrix"],
        "supports_vulkan_memory_model": features["vulkanMemoryModel"],
        "accelerates_integer_dot_product": features[
            "integerDotProduct4x8BitPackedSignedAccelerated"
        ],
        "supported_subgroup_operations": (
            subgroup["supported_operations"] if subgroup["in_compute"] else 0
        ),
        "subgroup_size": subgroup["size"],
        "min_subgroup_size": subgroup["min_size"],
        "max_subgroup_size": subgroup["max_size"],
        "subgroup_sizes": _subgroup_sizes(subgroup),
        "widest_subgroup": subgroup["max_size"],
        "max_num_threads": limits["max_workgroup_invocations"],
        "max_threads_per_block": limits["max_workgroup_invocations"],
        "max_block_size_x": size[0],
        "max_block_size_y": size[1],
        "max_block_size_z": size[2],
        "max_shared_memory_per_block": limits["max_shared_memory"],
        "max_storage_buffer_range": limits["max_storage_buffer_range"],
        "max_uniform_buffer_range": limits["max_uniform_buffer_range"],
        "max_push_constants_size": limits["max_push_constants_size"],
        "max_per_stage_descriptor_storage_buffer": limits["max_storage_buffers"],
    }


def _subgroup_sizes(subgroup: dict[str, Any]) -> int:
    """The subgroup sizes that a kernel can request or rely on, as a bit mask: 8 | 16 | 32."""
    least, most = subgroup["min_size"], subgroup["max_size"]
    if least != most and not subgroup["choosable"]:
        return 0
    return sum(size for size in _POWERS if least <= size <= most)


_POWERS = tuple(1 << bit for bit in range(8))
# VkComponentTypeKHR and VkScopeKHR
_TYPES = ("f16", "f32", "f64", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64")
_SCOPES = {1: "device", 2: "workgroup", 3: "subgroup", 5: "queue family"}


def _matrix(entry: dict[str, Any]) -> Matrix:
    def type_name(code: int) -> str:
        return _TYPES[code] if code < len(_TYPES) else str(code)

    return Matrix(
        m=entry["m"],
        n=entry["n"],
        k=entry["k"],
        **{key: type_name(entry[key]) for key in ("a", "b", "c", "result")},
        saturating=entry["saturating"],
        scope=_SCOPES.get(entry["scope"], str(entry["scope"])),
    )
