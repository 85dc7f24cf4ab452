"""TVM targets of kind `vulkan` for tests: what a device of each sort claims."""

from __future__ import annotations

from typing import Any

PORTABLE: dict[str, Any] = {
    "kind": "vulkan",
    "supports_float16": True,
    "supports_int8": True,
    "supports_int16": True,
    "supports_int64": True,
    "supports_8bit_buffer": True,
    "supports_16bit_buffer": True,
    "max_threads_per_block": 256,
    "max_num_threads": 256,
    "max_shared_memory_per_block": 16384,
    "max_push_constants_size": 128,
}
"""SPIR-V 1.3 and what TVM's own Vulkan runtime switches on; no subgroups."""

BARE: dict[str, Any] = {"kind": "vulkan"}
"""32-bit numbers and nothing else."""

SUBGROUP: dict[str, Any] = {**PORTABLE, "supported_subgroup_operations": 1 | 4 | 8 | 16 | 32}
"""Basic, arithmetic, ballot, shuffle, relative shuffle."""

EIGHT: dict[str, Any] = {**SUBGROUP, "mattr": ["subgroup-8"]}
"""The same, and 8 threads of a subgroup at least, as Mesa's software driver has."""

DOT: dict[str, Any] = {**SUBGROUP, "supports_integer_dot_product": True}
"""Four products of bytes and their sum in one instruction."""

COOPMAT: dict[str, Any] = {
    **DOT,
    "supports_cooperative_matrix": True,
    "mattr": ["coopmat-8x8x8", "coopmat-s8-8x8x8"],
}
"""Matrices held by a subgroup, of the shapes that Mesa's software driver has."""
