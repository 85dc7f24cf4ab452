"""A pass over scheduled functions that configures the tile registers once per parallel task.

The configuration is per thread, and other code in the process may change it between two kernels, so
each task of each parallel loop loads it. Not each iteration: the statement precedes the loop and
runs in every task, because the task starts there ("parallel launch point"). A task that stores past
the caches fences at its end, so that other threads may read its results.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr

from ..tiling import is_one
from .amx_instructions import configure, release, uses_tiles
from .streaming_store import fence, streams

LAUNCH = "pragma_parallel_launch_point"


def configure_tiles() -> tvm.transform.Pass:
    """Configure tiles at the start of each task that uses them and release them at its end."""

    @tvm.transform.module_pass(opt_level=0, name="ConfigureTiles")
    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        for var, func in mod.functions_items():
            if isinstance(func, tirx.PrimFunc):
                mod[var] = configured(func)
        return mod

    return run


def configured(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """`func` with tiles configured; all its tile instructions must be in parallel loops."""
    return tvm_ffi.structural_map(func, (tirx.For, _task)) if uses_tiles(func.body) else func


def _task(loop: tirx.For) -> tirx.Stmt:
    if loop.kind != tirx.ForKind.PARALLEL or not uses_tiles(loop.body):
        return loop
    inside = [tirx.Evaluate(configure()), loop, tirx.Evaluate(release())]
    if streams(loop.body):
        inside.append(fence())
    if is_one(loop.extent):
        return tirx.SeqStmt(inside)  # lowering drops the loop: there is no launch, and one task
    return tirx.AttrStmt(tirx.const(0, "int32"), LAUNCH, _one(), tirx.SeqStmt(inside))


def _one() -> Expr:
    return tirx.const(1, "int32")
