"""GPUs by Vulkan, as presets: what the code may use of a vendor's devices, beside which host code.

A preset claims what all devices named in its description report by the vendors' published
databases; none of them was at hand. A device that has less is refused in words when the bundle is
opened.
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
# 32 or 64, and of older ones 64 only: 32 at least
AMD = replace(NVIDIA, max_shared_memory_per_block=32 * KIB)
# 8 to 32, of the latest 16 or 32: the runtime asks for 16
INTEL = replace(AMD, supports_int64=False, subgroup_size=16, max_storage_buffer_range=GIB)
ADRENO = replace(
    PORTABLE,
    supported_subgroup_operations=REDUCTIONS,
    subgroup_size=64,
    max_shared_memory_per_block=32 * KIB,
)
MALI = replace(ADRENO, supports_integer_dot_product=True, subgroup_size=16)

# (name, description, what the code may use)
DESKTOP = (
    ("vulkan", "any GPU with Vulkan 1.1; f16 and w4 need its 16-bit floats", PORTABLE),
    ("vulkan-nvidia", "NVIDIA GPUs since 2018 (Turing), Jetson Orin", NVIDIA),
    (
        "vulkan-nvidia-mma",
        "the same, many rows by cooperative matrices",
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
    """Desktop and board GPUs beside this machine's host code, and those of phones."""
    host = host_beside_gpu(machine)
    desktop = [with_gpu(host, *row) for row in DESKTOP]
    return (*desktop, *(with_gpu(PHONES[0], *row) for row in ANDROID))
