"""Common parts of GPU presets.

Host code only computes shapes and launches kernels, so it is compiled for the oldest CPUs.
"""

from __future__ import annotations

from dataclasses import replace

from handglass.runtime.system.hardware import Machine

from ..gpu import GpuCapabilities
from ..target import Target
from .aarch64 import GENERIC
from .x86 import TRIPLE

X86_64 = Target("x86-64", "any x86-64", TRIPLE, "x86-64", (), vector_bits=128)
ARM64 = GENERIC.target("aarch64", "any aarch64")
HOSTS = {"x86_64": X86_64, "aarch64": ARM64}


def host_beside_gpu(machine: Machine) -> Target:
    return HOSTS.get(machine.architecture, X86_64)


def with_gpu(host: Target, name: str, description: str, gpu: GpuCapabilities) -> Target:
    """A target with the GPU and the host code of `host`."""
    return replace(
        host,
        name=name,
        description=description,
        gpu=gpu,
        load_rules=None,
        same_code_as=None,
    )
