"""CUDA as a device kind: the implementation of driver.py."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...system.clock_rate import ClockState
from ...system.shared_library import SharedLibrary
from ..device_info import DeviceInfo
from ..driver import Driver, Hints
from ..quirks import Quirk
from .architectures import why_unfit
from .clock import read_gpu_clock
from .devices import cuda_devices, cuda_problem, cuda_statistics
from .plugin import CUDA

DRIVER_VARIABLE = "HANDGLASS_CUDA_DRIVER"
"""Names the driver's library instead of libcuda.so.1 (settings.h)."""
FOLDERS = (
    *("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"),
    *("/usr/lib/aarch64-linux-gnu/nvidia", "/usr/lib/aarch64-linux-gnu/tegra", "/usr/lib/wsl/lib"),
)
"""Folders in which distributions, JetPack and WSL put libcuda.so.1."""


class CudaDriver(Driver):
    hints = Hints(
        absent="install NVIDIA's driver for CUDA 12.0 or newer (on a Jetson: JetPack 6 or newer), "
        "and run 'handglass doctor'; a bundle compiled for a CPU needs no driver",
        crash="dmesg shows what the driver reports (NVRM, Xid); install another version",
        hang="dmesg shows what the driver reports (NVRM, Xid); restart the machine",
        lacking="'handglass targets' lists the chips of each target",
    )
    variables = ("CUDA_", "NVIDIA_", "LD_LIBRARY_PATH", "LD_PRELOAD", "HANDGLASS_CUDA_")

    def load(self, plugin: SharedLibrary | None) -> None:
        CUDA.load(plugin)

    def devices(self) -> list[DeviceInfo]:
        return cuda_devices()

    def problem(self) -> str | None:
        return cuda_problem()

    def quirks(self, device: DeviceInfo) -> tuple[Quirk, ...]:
        """None are known; known answers (self_test.py) run on this kind as on any other."""
        return ()

    def statistics(self, index: int) -> Mapping[str, Any]:
        return cuda_statistics(index)

    def clock_state(self, device: DeviceInfo) -> ClockState:
        return read_gpu_clock(device.uuid)

    def unfit(self, images: Sequence[str], device: DeviceInfo) -> str:
        return why_unfit(images, int(device.abilities["compute_capability"]))

    def driver_files(self) -> Iterator[Path]:
        """The libraries that may be opened."""
        yield from (Path(folder, "libcuda.so.1") for folder in FOLDERS)
        if DRIVER_VARIABLE in os.environ:
            yield Path(os.environ[DRIVER_VARIABLE])


DRIVER = CudaDriver
