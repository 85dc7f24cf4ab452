"""Functions that measure the machine and not the model, for `handglass bench`.

There is no C compiler on the device, so they are compiled into every bundle, for the same target.

probe_read  (tasks, steps, 64) float32 -> (tasks, 64): sums a large array; what memory can deliver.
probe_fma   Shape(tasks, rounds) -> (tasks, width) float32: each value starts as the number of its
            chain and becomes value * 1/2 + 1/2, `rounds` times, without leaving its register;
            what the arithmetic units can do.
probe_dot4, probe_dot8  Shape(tasks, rounds) -> (tasks, width) int32: the same for the products of
            integers that matmuls of 4-bit and of 8-bit weights are made of (schedules/dot.py).

A task is one piece of parallel work. `width` keeps all units of a core busy: CHAINS vectors. A
multiply-add counts as two operations, so one call does 2 * rounds for each value of its result.
"""

from __future__ import annotations

import tvm
from tvm import relax, tirx
from tvm.script import tirx as T

from handglass.schedules.dot import find_dot
from handglass.targets.target import Target

from .dot_probe import add_dot_probe

READ_WIDTH = 64
"""Floats per step: 8 accumulators of 8 lanes (AVX2), 4 of 16 (AVX-512), 16 of 4 (NEON)."""
CHAINS = 12
"""Independent chains: two units times a latency of up to five fit; 16 registers hold them."""


def add_probes(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """`mod`, lowered, with the probes as two more exported functions."""
    builder = relax.BlockBuilder()
    lanes = target.vector_bits // 32  # floats in a register
    _add_read(builder, lanes)
    _add_fma(builder, lanes)
    dot = find_dot(tvm.target.Target(target.tvm))
    add_dot_probe(builder, "probe_dot4", dot, 4)
    add_dot_probe(builder, "probe_dot8", dot, dot.byte_bits)
    out = mod.clone()
    out.update(builder.get())
    return out


def _add_read(builder: relax.BlockBuilder, lanes: int) -> None:
    tasks, steps = tirx.Var("tasks", "int64"), tirx.Var("steps", "int64")
    data = relax.Var("data", relax.TensorType((tasks, steps, READ_WIDTH), "float32"))
    sums = relax.TensorType((tasks, READ_WIDTH), "float32")
    export(builder, "probe_read", [data], read_kernel(lanes), [data], sums)


def _add_fma(builder: relax.BlockBuilder, lanes: int) -> None:
    tasks, rounds = tirx.Var("tasks", "int64"), tirx.Var("rounds", "int64")
    size = relax.Var("size", relax.ShapeType([tasks, rounds]))
    values = relax.TensorType((tasks, CHAINS * lanes), "float32")
    given = [relax.prim_value(rounds)]
    export(builder, "probe_fma", [size], fma_kernel(lanes), given, values)


def export(builder, name: str, params: list, kernel: tirx.PrimFunc, given: list, out) -> None:
    """A function that does nothing but call the kernel."""
    ready = kernel.with_attr("tirx.is_scheduled", True).with_attr("tirx.noalias", True)
    var = builder.add_func(ready, f"{name}_kernel")
    with builder.function(name, params):
        with builder.dataflow():
            result = builder.emit_output(relax.call_tir(var, given, out_ty=out))
        builder.emit_func_output(result)


def read_kernel(lanes: int) -> tirx.PrimFunc:
    width, sums = READ_WIDTH, READ_WIDTH // lanes

    @T.prim_func(private=True, s_tir=True)
    def probe_read_kernel(data: T.handle, out: T.handle):
        tasks, steps = T.int64(), T.int64()
        x = T.match_buffer(data, (tasks, steps, T.int64(width)), "float32")
        y = T.match_buffer(out, (tasks, T.int64(width)), "float32")
        for task in T.parallel(tasks):
            with T.sblock("read"):
                T.reads(x[task, 0:steps, 0:width])
                T.writes(y[task, 0:width])
                total = T.alloc_buffer((width,), "float32", scope="local")
                for c in T.unroll(sums):
                    total[T.ramp(c * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
                for step in T.serial(steps):
                    for c in T.unroll(sums):
                        total[T.ramp(c * lanes, 1, lanes)] = (
                            total[T.ramp(c * lanes, 1, lanes)]
                            + x[task, step, T.ramp(c * lanes, 1, lanes)]
                        )
                for c in T.unroll(sums):
                    y[task, T.ramp(c * lanes, 1, lanes)] = total[T.ramp(c * lanes, 1, lanes)]

    return probe_read_kernel


def fma_kernel(lanes: int) -> tirx.PrimFunc:
    chains, width = CHAINS, CHAINS * lanes

    @T.prim_func(private=True, s_tir=True)
    def probe_fma_kernel(rounds: T.int64, out: T.handle):
        tasks = T.int64()
        y = T.match_buffer(out, (tasks, T.int64(width)), "float32")
        for task in T.parallel(tasks):
            with T.sblock("fma"):
                T.reads()
                T.writes(y[task, 0:width])
                value = T.alloc_buffer((width,), "float32", scope="local")
                for c in T.unroll(chains):
                    value[T.ramp(c * lanes, 1, lanes)] = T.broadcast(T.Cast("float32", c), lanes)
                for _ in T.serial(rounds):
                    for c in T.unroll(chains):
                        value[T.ramp(c * lanes, 1, lanes)] = value[
                            T.ramp(c * lanes, 1, lanes)
                        ] * T.broadcast(T.float32(0.5), lanes) + T.broadcast(T.float32(0.5), lanes)
                for c in T.unroll(chains):
                    y[task, T.ramp(c * lanes, 1, lanes)] = value[T.ramp(c * lanes, 1, lanes)]

    return probe_fma_kernel
