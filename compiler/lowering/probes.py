"""Probe functions that measure the machine rather than the model, for `handglass bench`.

The device has no C compiler, so the probes are compiled into every bundle for the bundle's target.

probe_read  (tasks, steps, 64) float32 -> (tasks, 64): memory bandwidth, by summing a large array.
probe_fma   Shape(tasks, rounds) -> (tasks, width) float32: arithmetic throughput. Each value starts
            as the number of its chain and is replaced `rounds` times by value * 1/2 + 1/2, in a
            register.
probe_dot4, probe_dot8  Shape(tasks, rounds) -> (tasks, width) int32: the same for the integer dot
            products of matmuls with 4-bit and 8-bit weights (schedules/isa/integer_isa.py).
probe_tile_int8, probe_tile_bf16  the same for products in tile registers, (tasks, width) int32 and
            float32; only in bundles for machines with tiles (amx_probes.py).

A task is one unit of parallel work. `width` is large enough to keep all units of a task busy. A
multiply-add counts as two operations, so one call does 2 * rounds for each value of its result.
"""

from __future__ import annotations

import tvm
from tvm import relax

from handglass.targets.target import Target

from .cpu_probes import add_cpu_probes
from .gpu_probes import add_gpu_probes


def add_probes(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """A copy of the lowered module `mod` with the probes as additional exported functions."""
    builder = relax.BlockBuilder()
    if target.gpu is None:
        add_cpu_probes(builder, target)
    else:
        add_gpu_probes(builder)
    out = mod.clone()
    out.update(builder.get())
    return out
