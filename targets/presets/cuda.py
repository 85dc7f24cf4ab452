"""Presets for NVIDIA GPUs: the chips that get machine code, and the host.

None of them was available for testing. Other chips of at least the lowest compute capability load
the PTX that every bundle also has.
"""

from __future__ import annotations

from dataclasses import replace

from handglass.runtime.system.hardware import Machine

from ..codegen.cuda.gpu import CudaCapabilities
from ..target import Target
from .aarch64 import GB
from .gpu import ARM64, host_beside_gpu, with_gpu

# (name, description, compute capabilities)
CARDS = (
    (
        "cuda",
        "any NVIDIA GPU since 2018 (Turing); one bundle for all of them",
        (75, 80, 86, 89, 90, 120),
    ),
    ("rtx-20", "GeForce RTX 20 and GTX 16 (Turing), T4", (75,)),
    ("rtx-30", "GeForce RTX 30, RTX A-series (Ampere), A10", (86,)),
    ("rtx-40", "GeForce RTX 40 (Ada), L4, L40", (89,)),
    ("rtx-50", "GeForce RTX 50 (Blackwell)", (120,)),
    ("a100", "A100 (Ampere)", (80,)),
    ("h100", "H100, H200 (Hopper)", (90,)),
)
ORIN = CudaCapabilities(capabilities=(87,), unified_memory=True)
THOR = CudaCapabilities(capabilities=(110,), majors=(13, 12), unified_memory=True)
"""JetPack 7, the first for Thor, has CUDA 13, which renamed its sm_101 to sm_110."""
# (name, description, capabilities, bytes of memory of the smallest common board)
JETSONS = (
    ("jetson-orin", "Jetson Orin; JetPack 6 has CUDA 12, JetPack 7 CUDA 13", ORIN, 8 * GB),
    ("jetson-thor", "Jetson Thor", THOR, 128 * GB),
)


def cuda_presets(machine: Machine) -> tuple[Target, ...]:
    """Cards with host code for this machine's architecture, and boards with aarch64."""
    host = host_beside_gpu(machine)
    cards = [
        with_gpu(host, name, description, CudaCapabilities(capabilities=capabilities))
        for name, description, capabilities in CARDS
    ]
    boards = [
        replace(with_gpu(ARM64, name, description, gpu), memory_limit=memory)
        for name, description, gpu, memory in JETSONS
    ]
    return (*boards, *cards)
