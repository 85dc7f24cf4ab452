"""From TVM's CUDA C++ to a runtime module: one image per architecture of the target.

TVM's generator ends in the global function `ffi.Module.create.cuda`, which the wheel leaves to a
runtime library that is not loaded here. That function does not get the target, so the generator is
wrapped, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import tvm_ffi
from tvm import DataType, ir
from tvm.target import Target

from handglass.errors import UsageError

from ..narrowing import narrowed
from ..reductions import Way
from ..used import note_use
from .architectures import compiler_for, images_of
from .by_twos import by_twos
from .cells import Cells, with_cells
from .gpu import DYNAMIC
from .module_bytes import Kernel, pack_module
from .packages import MAJORS
from .prelude import with_prelude
from .selects import with_branches
from .spills import compile_image

WARP = 32
DYNAMIC_TAG = "tirx.use_dyn_shared_memory"
"""TVM's tag of the launch parameter with the bytes of shared memory."""
_TARGET: ContextVar[Target] = ContextVar("target")
"""The target of the module that is being generated."""
_CELLS: ContextVar[Cells] = ContextVar("cells")
"""Which arguments its kernels read from cells."""

Build = Callable[[ir.IRModule, Target], Any]


def way_of(_: Target) -> Way:
    """How code may reduce across threads: within warps, and in blocks of whole warps."""
    return Way(lanes=WARP, whole=WARP)


def with_target(build: Build) -> Build:
    """TVM's `target.build.cuda`, such that `create_module` knows the target and the cells."""

    def build_cuda(mod: ir.IRModule, target: Target) -> Any:
        mod, cells = with_cells(narrowed(by_twos(with_branches(mod)), has_int64=True))
        tokens = _TARGET.set(target), _CELLS.set(cells)
        try:
            return build(mod, target)
        finally:
            _TARGET.reset(tokens[0])
            _CELLS.reset(tokens[1])

    return build_cuda


def create_module(source: bytes, _: str, functions: Mapping[str, Any], __: Any) -> Any:
    """TVM's `ffi.Module.create.cuda`: the module of kind `cuda` for the source of all kernels."""
    kernels = [kernel_of(str(name), info) for name, info in sorted(functions.items())]
    if any(DYNAMIC_TAG in kernel.tags for kernel in kernels):
        note_use(DYNAMIC, 1)
    images = compile_images(bytes(source).decode(), _TARGET.get())
    load = tvm_ffi.get_global_func("ffi.Module.load_from_bytes.cuda")
    return load(pack_module(kernels, images))


def kernel_of(name: str, info: Any) -> Kernel:
    """The signature of a kernel, from TVM's FunctionInfo, while its module is generated."""
    types = [DataType(str(text)) for text in info.arg_types]
    arguments = tuple((int(t.type_code), int(t.bits), int(t.lanes)) for t in types)
    cells = _CELLS.get().get(name, ())
    passed = arguments[:-1] if cells else arguments  # the caller does not pass the address of cells
    return Kernel(name, passed, tuple(map(str, info.launch_param_tags)), cells)


def compile_images(source: str, target: Target) -> dict[str, bytes]:
    """Image name -> content, for the architectures of the target.

    Raises DeviceError if no installed compiler can, CompilationError if the source is wrong.
    """
    capabilities = capabilities_of(target)
    compiler, text = compiler_for(capabilities, majors_of(target)), with_prelude(source)
    names = images_of(capabilities, compiler)
    with ThreadPoolExecutor(min(len(names), os.cpu_count() or 1)) as pool:
        compiled = pool.map(lambda name: compile_image(compiler, text, name)[0], names)
        return dict(zip(names, compiled, strict=True))


def capabilities_of(target: Target) -> list[int]:
    """The compute capabilities of a target: its words sm_N, else its `arch`."""
    words = [str(word) for word in target.keys if str(word).startswith("sm_")]
    words = words or [str(target.attrs.get("arch", ""))]
    if not all(re.fullmatch("sm_[0-9]{2,3}", word) for word in words):
        raise UsageError(f"CUDA target: arch {words[0]!r:.40} must be sm_ and a number, like sm_87")
    return sorted(int(word.removeprefix("sm_")) for word in words)


def majors_of(target: Target) -> list[int]:
    """The CUDA majors that a target prefers: its words cuda-N, else all."""
    words = [str(word) for word in target.keys if str(word).startswith("cuda-")]
    return [int(word.removeprefix("cuda-")) for word in words] or list(MAJORS)
