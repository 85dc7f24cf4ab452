"""TVM targets of kind `vulkan` for tests, with the capabilities of different devices."""

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
"""SPIR-V 1.3 and the features that TVM's own Vulkan runtime enables; no subgroups."""

BARE: dict[str, Any] = {"kind": "vulkan"}
"""32-bit types only."""

SUBGROUP: dict[str, Any] = {**PORTABLE, "supported_subgroup_operations": 1 | 4 | 8 | 16 | 32}
"""Basic, arithmetic, ballot, shuffle, relative shuffle."""

EIGHT: dict[str, Any] = {**SUBGROUP, "mattr": ["subgroup-8"]}
"""The same with subgroups of at least 8 threads, as in Mesa's software driver."""

DOT: dict[str, Any] = {**SUBGROUP, "supports_integer_dot_product": True}
"""With an instruction for the dot product of four bytes."""

COOPMAT: dict[str, Any] = {
    **DOT,
    "supports_cooperative_matrix": True,
    "mattr": ["coopmat-8x8x8", "coopmat-s8-8x8x8"],
}
"""With cooperative matrices of the shapes that Mesa's software driver supports."""


def limited(*limits: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """By name, targets of devices with so many threads and bytes of shared memory per workgroup."""
    return {
        f"{threads} threads": {
            **PORTABLE,
            "max_threads_per_block": threads,
            "max_num_threads": threads,
            "max_shared_memory_per_block": shared,
        }
        for threads, shared in limits
    }
