"""Scheduled functions as CUDA kernels for tests: their source, images, and emulated launches.

A launch takes its grid, its arguments and its shared memory from the host code that TVM generates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from emulator.launch import Counts, Module
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.sym import Analyzer
from tvm.target import Target
from tvm.tirx.build import split_host_device_mods
from vulkan_running import as_module

from handglass.schedules import RULES_BY_KIND
from handglass.schedules.choices import DEFAULTS, Choices
from handglass.schedules.rule import schedule_function
from handglass.targets import find_target
from handglass.targets.codegen.cuda.enable import BUILD, CREATE, enable_compiler
from handglass.targets.codegen.cuda.nvrtc import load_nvrtc
from handglass.targets.codegen.cuda.prelude import with_prelude
from handglass.targets.codegen.cuda.spills import compile_image

CALL, DYNAMIC = "tirx.call_ffi_kernel", "tirx.use_dyn_shared_memory"
SIZES = {"half": 2, "float": 4, "int": 4, "uint": 4}
AXES = ("blockIdx", "threadIdx")


@dataclass(frozen=True)
class Launch:
    """A call of a kernel by the host: expressions of its arguments and extents."""

    kernel: str
    arguments: Sequence[Any]
    extents: Mapping[str, Any]


@dataclass(frozen=True)
class Kernels:
    """The kernels of one function."""

    source: str
    launches: Sequence[Launch]
    buffers: Sequence[str]
    """Names of the function's buffers, in its order."""
    bound: Mapping[str, Any] = field(default_factory=dict)
    """Expressions that the host names before it launches."""
    between: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Buffers from one kernel to the next: elements and type."""

    def __post_init__(self) -> None:
        """Arguments are found by name: of two buffers with one name, kernels would get the last."""
        check_distinct([*self.buffers, *self.between])

    @cached_property
    def emulated(self) -> Module:
        return Module(image(self.source, "compute_80", 13)[0].decode().rstrip("\0"))

    @property
    def static_shared(self) -> int:
        """Bytes of shared memory that all kernels declare."""
        found = re.findall(r"__shared__ (?:alignas\(\d+\) )?(\w+) \w+_ptr\[(\d+)\];", self.source)
        return sum(int(count) * SIZES[name] for name, count in found)

    def run(self, *arrays: np.ndarray, **sizes: int) -> list[Counts]:
        """Run the kernels in order on these arrays, which keep what is written."""
        known, sizes = dict(zip(self.buffers, arrays, strict=True)), dict(sizes)
        for name, expression in self.bound.items():
            sizes[name] = value_of(expression, sizes)
        for name, (elements, dtype) in self.between.items():
            known[name] = np.full(value_of(elements, sizes), np.nan, dtype)
        return [self._run(launch, known, sizes) for launch in self.launches]

    def _run(
        self, launch: Launch, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]
    ) -> Counts:
        extents = {name: value_of(e, sizes) for name, e in launch.extents.items()}
        grid, block = ([extents.get(f"{kind}.{axis}", 1) for axis in "xyz"] for kind in AXES)
        given = [
            arrays[a.args[0].name] if isinstance(a, ir.Call) else value_of(a, sizes)
            for a in launch.arguments
        ]
        parameters = len(self.emulated.layout(launch.kernel))
        given += [0] * (parameters - len(given))  # no cells: numbers are as they are passed
        dynamic = extents.get(DYNAMIC, 0)
        return self.emulated.launch(launch.kernel, grid, block, *given, dynamic=dynamic)


def check_distinct(names: Sequence[str]) -> None:
    if shared := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several buffers are called {', '.join(shared)}")


def image(source: str, architecture: str, major: int) -> tuple[bytes, str]:
    """The image, and what the compiler says about its registers."""
    compiler = load_nvrtc(major)
    assert compiler is not None
    return compile_image(compiler, source, architecture)


def target_of(preset: str) -> Target:
    return Target(dict(find_target(preset).tvm))


def scheduled(
    func: tirx.PrimFunc, target: Target, choices: Choices = DEFAULTS
) -> tuple[Schedule, str]:
    """Schedule the function by the first rule that takes it. Returns it with the rule's name."""
    found = schedule_function(func, RULES_BY_KIND["cuda"], target, choices)
    assert found is not None
    return found[0], found[1].name


def kernels_of(func: tirx.PrimFunc, target: Target) -> Kernels:
    """The kernels of a scheduled function."""
    enable_compiler()
    pipeline, _, finalize = tirx.get_default_tir_pipeline(target)
    host, parts = split_host_device_mods(
        pipeline(tirx.transform.BindTarget(target)(as_module(func)))
    )
    ((_, device),) = parts.items()
    calls: list[ir.Call] = []
    tvm_ffi.structural_walk(host["main"].body, (ir.Call, calls.append))
    launches = [_launch(call) for call in calls if str(call.op.name) == CALL]
    buffers = [p.name for p in func.params if isinstance(p.ty, tirx.BufferType)]
    source = _source_of(finalize()(device), target)
    return Kernels(source, launches, buffers, *_steps(host["main"].body))


def _steps(body: tirx.Stmt) -> tuple[dict[str, Any], dict[str, tuple[Any, str]]]:
    """What the host names, and the buffers that it allocates."""
    bound: dict[str, Any] = {}
    between: dict[str, tuple[Any, str]] = {}

    def note(bind: tirx.Bind) -> None:
        if bind.var.name.startswith("cse"):
            bound[bind.var.name] = bind.value

    def allocate(made: tirx.AllocBuffer) -> None:
        check_distinct([*between, made.buffer.name])
        (elements,) = made.buffer.shape
        between[made.buffer.name] = (elements, str(made.buffer.dtype))

    tvm_ffi.structural_walk(body, (tirx.Bind, note), order="pre")
    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, allocate), order="pre")
    return bound, between


def _launch(call: ir.Call) -> Launch:
    names = [str(name) for name in call.attrs.launch_params]
    kernel, *arguments = call.args
    values = arguments[len(arguments) - len(names) :]
    return Launch(
        str(kernel.value),
        arguments[: len(arguments) - len(names)],
        dict(zip(names, values, strict=True)),
    )


def _source_of(device: tvm.IRModule, target: Target) -> str:
    """What TVM's generator hands to the compiler."""
    found: list[str] = []

    def keep(source: bytes, *_: Any) -> Any:
        found.append(bytes(source).decode())
        return tvm_ffi.get_global_func("runtime.SourceModuleCreate")(found[0], "cu")

    create = tvm_ffi.get_global_func(CREATE)
    tvm_ffi.register_global_func(CREATE, keep, override=True)
    try:
        tvm_ffi.get_global_func(BUILD)(device, target)
    finally:
        tvm_ffi.register_global_func(CREATE, create, override=True)
    return with_prelude(found[0])


def value_of(expression: Any, sizes: Mapping[str, int]) -> int:
    """The number that an expression of the host is for these sizes."""
    named = (tirx.Var, lambda var: tirx.IntImm(str(var.ty.dtype), sizes[var.name]))
    return int(Analyzer().simplify(tvm_ffi.structural_map(expression, named)))
