"""The CUDA implementation of the `Generator` interface of codegen/kinds.py."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from handglass.runtime.devices.cuda import CUDA
from handglass.runtime.devices.device_info import DeviceInfo

from ...target import Target
from ..kinds import Generator
from ..plugin import plugin_for
from .architectures import compiler_for
from .detection import detected_target, target_of
from .enable import enable
from .gpu import CudaCapabilities


class CudaGenerator(Generator):
    def prepare(self, target: Target) -> None:
        gpu = cast(CudaCapabilities, target.gpu)
        compiler_for(gpu.capabilities, gpu.majors)  # fails without one
        enable()

    def plugin_for(self, target: Target, needed: bool) -> Path | None:
        return plugin_for(CUDA.recipe, target, needed)

    def detected_target(self) -> Target:
        return detected_target()

    def target_of(self, device: DeviceInfo) -> Target:
        return target_of(device)


GENERATOR = CudaGenerator
