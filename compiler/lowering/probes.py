"""Functions that measure the machine and not the model, for `handglass bench`.

There is no C compiler on the device, so they are compiled into every bundle, for the same target.

probe_read  (tasks, steps, 64) float32 -> (tasks, 64): sums a large array; what memory can deliver.
probe_fma   Shape(tasks, rounds) -> (tasks, width) float32: each value starts as the number of its
            chain and becomes value * 1/2 + 1/2, `rounds` times, without leaving its register;
            what the arithmetic units can do.
probe_dot4, probe_dot8  Shape(tasks, rounds) -> (tasks, width) int32: the same for the products of
            integers that matmuls of 4-bit and of 8-bit weights are made of
            (schedules/isa/integer_isa.py).
probe_tile_int8, probe_tile_bf16  the same for products in tile registers, only in bundles for
            machines that have them; width in int32 and in float32 (amx_probes.py).

A task is one piece of parallel work. `width` keeps all units busy that work on one. A
multiply-add counts as two operations, so one call does 2 * rounds for each value of its result.
"""

from __future__ import annotations

import tvm
from tvm import relax

from handglass.targets.target import Target

from .cpu_probes import add_cpu_probes
from .gpu_probes import add_gpu_probes


def add_probes(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """`mod`, lowered, with the probes as more exported functions."""
    builder = relax.BlockBuilder()
    if target.gpu is None:
        add_cpu_probes(builder, target)
    else:
        add_gpu_probes(builder)
    out = mod.clone()
    out.update(builder.get())
    return out
