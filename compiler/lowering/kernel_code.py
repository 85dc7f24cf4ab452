"""Compile scheduled kernels to a shared library for the device."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import tvm
from tvm import tirx

from handglass.schedules.isa.aligned_stack import align_stack
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.targets.codegen.export import export_library
from handglass.targets.codegen.kinds import prepare_compiler
from handglass.targets.linking.linker import find_linker
from handglass.targets.target import Target

ENTRY = "kernel"
"""Name of the function in a single-kernel library."""


def library_of(func: tirx.PrimFunc, target: Target) -> bytes:
    """The bytes of the shared library of one scheduled function."""
    entry = func.with_attr("tirx.noalias", True).with_attr("global_symbol", ENTRY)
    return export(tvm.IRModule({ENTRY: entry}), target)


def export(mod: tvm.IRModule, target: Target) -> bytes:
    """The bytes of the shared library of scheduled functions, compiled as in a whole model."""
    prepare_compiler(target)
    tvm_target = tvm.target.Target(target.tvm)
    with tvm_target:
        built = tvm.compile(align_stack(tvm_target)(configure_tiles()(mod)), tvm_target)
    with TemporaryDirectory(prefix="handglass-kernel-") as folder:
        path = Path(folder, "kernel.so")
        export_library(built, path, find_linker(target))
        return path.read_bytes()
