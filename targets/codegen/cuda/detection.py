"""The GPU of this machine as a target: its compute capability and its limits."""

from __future__ import annotations

import re
from dataclasses import replace

from handglass.errors import DeviceError
from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.system.hardware import read_machine

from ...presets.gpu import host_beside_gpu, with_gpu
from ...target import Target, host_name
from .gpu import CudaCapabilities

DETECTED = host_name(CudaCapabilities.kind)


def detected_target() -> Target:
    """The target of this machine's first GPU. Raises DeviceError if there is none."""
    from handglass.runtime.devices.cuda import cuda_devices, cuda_problem

    devices = cuda_devices()
    if not devices:
        raise DeviceError(
            f"target '{DETECTED}': {cuda_problem()}; name a GPU to compile for instead, for "
            "example --target cuda, which fits all GPUs since 2018"
        )
    return target_of(devices[0])


def target_of(device: DeviceInfo) -> Target:
    """The target that describes a device; its tuning records apply to devices of the same name."""
    gpu = CudaCapabilities(
        capabilities=(int(device.abilities["compute_capability"]),),
        unified_memory=device.unified_memory,
    )
    host = host_beside_gpu(read_machine())
    target = with_gpu(host, DETECTED, f"this machine's {device.name}", gpu)
    slug = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")[:40].strip("-")
    return replace(target, memory_limit=device.memory or None, same_code_as=f"cuda-{slug}")
