"""Presets for Vulkan GPUs: the capabilities that code may use, and the host target.

A preset claims the capabilities that all devices in its description report according to published
vendor databases; no such device was available for testing. Opening a bundle on a device with fewer
capabilities is an error that names them.
"""

from __future__ import annotations

from dataclasses import replace

from handglass.runtime.system.hardware import Machine

from ..codegen.vulkan.gpu import REDUCTIONS, VulkanCapabilities
from ..target import Target
from .aarch64 import PHONES
from .gpu import host_beside_gpu, with_gpu

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

PORTABLE = VulkanCapabilities()
NVIDIA = VulkanCapabilities(
    supports_int64=True,
    supports_integer_dot_product=True,
    supported_subgroup_operations=REDUCTIONS,
    subgroup_size=32,
    max_threads_per_block=1024,
    max_shared_memory_per_block=48 * KIB,
    max_storage_buffer_range=2 * GIB - 1,
    max_uniform_buffer_range=64 * KIB,
)
# Subgroups have 32 or 64 threads, on older devices only 64: at least 32.
AMD = replace(NVIDIA, max_shared_memory_per_block=32 * KIB)
# Subgroups have 8 to 32 threads, on the latest devices 16 or 32; the runtime requests 16.
INTEL = replace(AMD, supports_int64=False, subgroup_size=16, max_storage_buffer_range=GIB)
ADRENO = replace(
    PORTABLE,
    supported_subgroup_operations=REDUCTIONS,
    subgroup_size=64,
    max_shared_memory_per_block=32 * KIB,
)
MALI = replace(ADRENO, supports_integer_dot_product=True, subgroup_size=16)

# (name, description, capabilities)
DESKTOP = (
    ("vulkan", "any GPU with Vulkan 1.1; f16 and w4 need its 16-bit floats", PORTABLE),
    ("vulkan-nvidia", "NVIDIA GPUs since 2018 (Turing), Jetson Orin", NVIDIA),
    (
        "vulkan-nvidia-mma",
        "the same, with cooperative matrices for many rows",
        replace(NVIDIA, cooperative_matrix=(16, 16, 16)),
    ),
    ("vulkan-amd", "AMD GPUs since 2017 (Vega, RDNA)", AMD),
    ("vulkan-intel", "Intel GPUs since 2020 (Xe)", INTEL),
)
ANDROID = (
    ("android-vulkan", "64-bit Android phones with Vulkan 1.1; f16, w4: 16-bit floats", PORTABLE),
    ("android-adreno", "Android phones with an Adreno 6xx or later", ADRENO),
    ("android-mali", "Android phones with a Mali of the Valhall family or later", MALI),
)


def vulkan_presets(machine: Machine) -> tuple[Target, ...]:
    """Desktop and board GPUs with host code for this machine's architecture, and phone GPUs."""
    host = host_beside_gpu(machine)
    desktop = [with_gpu(host, *row) for row in DESKTOP]
    return (*desktop, *(with_gpu(PHONES[0], *row) for row in ANDROID))
