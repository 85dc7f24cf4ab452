"""Descriptions of fake GPUs, for code that depends only on the description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handglass.runtime.devices.device_info import DeviceInfo

ABILITIES: Mapping[str, bool | int] = {
    "supports_float16": True,
    "supports_int8": True,
    "supports_8bit_buffer": True,
    "supports_cooperative_matrix": False,
    "supported_subgroup_operations": 0b0111,
    "max_threads_per_block": 256,
    "max_shared_memory_per_block": 16384,
    "max_storage_buffer_range": 1 << 27,
}


def mesa(major: int, minor: int, patch: int) -> int:
    """A driver version, packed as by most drivers."""
    return major << 22 | minor << 12 | patch


REPORT: Mapping[str, Any] = {
    "vendor_id": 0x1234,
    "driver_id": 3,
    "driver_version": mesa(25, 2, 1),
    "cooperative_matrices": [],
}
"""The part of the Vulkan library's report that other code reads."""


def fake_gpu(name: str = "Somebody's GPU", index: int = 0, **report: Any) -> DeviceInfo:
    return DeviceInfo(
        kind="vulkan",
        index=index,
        name=name,
        sort="discrete",
        uuid=f"{index:032x}",
        driver="radv Mesa 25.2.1",
        driver_key="3",
        interface="Vulkan 1.3.0",
        memory=8 << 30,
        unified_memory=False,
        abilities=ABILITIES,
        report={**REPORT, **report},
    )
