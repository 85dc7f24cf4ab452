"""A pass over scheduled functions that configures the tile registers once per parallel task.

The configuration is per thread, and other code in the process may change it between two kernels, so
each task of each parallel loop loads it, but not each iteration. A task that stores past the caches
fences at its end, so that other threads may read its results.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from .amx_instructions import configure, release, uses_tiles
from .parallel_task import in_each_task
from .streaming_store import fence, streams


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
    return in_each_task(loop, inside)
