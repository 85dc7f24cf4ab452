"""A pass over scheduled functions that aligns the stack of x86 kernels to cache lines.

LLVM keeps a vector that finds no register on the stack. It aligns the stack for that only if the
function already has an aligned variable there when registers are assigned, and TVM aligns its own
to 16 bytes at most. Without one it depends on where the stack of a thread begins whether spilled
vectors cross cache lines: half of those of 32 bytes, in one case of two, and all of those of 64
bytes, in three of four. So each task has a variable of 64 bytes. Its address is prefetched, or LLVM
would remove it.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T
from tvm.target import Target

from ..gpu.limits import is_gpu
from .parallel_task import LAUNCH, in_each_task


def align_stack(target: Target) -> tvm.transform.Pass:
    """Align the stack in each parallel task, if `target` is an x86 CPU with AVX."""
    has = tvm.get_global_func("target.target_has_feature")
    applies = not is_gpu(target) and has("avx", target)

    @tvm.transform.module_pass(opt_level=0, name="AlignStack")
    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        for var, func in mod.functions_items():
            if applies and isinstance(func, tirx.PrimFunc):
                mod[var] = _aligned(func)
        return mod

    return run


def _aligned(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Tasks that are launched already are those with tiles (amx_configuration.py)."""
    launches: list[tirx.AttrStmt] = []
    tvm_ffi.structural_walk(func.body, (tirx.AttrStmt, launches.append))
    if any(launch.attr_key == LAUNCH for launch in launches):
        return tvm_ffi.structural_map(func, (tirx.AttrStmt, _launched))
    return tvm_ffi.structural_map(func, (tirx.For, _task))


def _task(loop: tirx.For) -> tirx.Stmt:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return in_each_task(loop, [_aligned_variable(), loop])


def _launched(task: tirx.AttrStmt) -> tirx.Stmt:
    if task.attr_key != LAUNCH:
        return task
    body = tirx.SeqStmt([_aligned_variable(), task.body])
    return tirx.AttrStmt(task.node, LAUNCH, task.value, body)


def _aligned_variable() -> tirx.Stmt:
    """Prefetch a variable that TVM aligns to 64 bytes: a descriptor, never used as one."""
    variable = T.tvm_stack_alloca("tensormap", 1)
    name = T.llvm_lookup_intrinsic_id("llvm.prefetch.p0")
    read, keep, data = T.int32(0), T.int32(3), T.int32(1)
    return tirx.Evaluate(T.call_llvm_intrin(name, variable, read, keep, data, dtype="void"))
