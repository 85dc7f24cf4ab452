"""Devices that nobody has, for what decides by their description alone."""

from __future__ import annotations

from collections.abc import Mapping

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
