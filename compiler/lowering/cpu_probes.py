"""The probes of probes.py for a CPU: a task is the work of one thread, in vector registers."""

from __future__ import annotations

import functools

import tvm
from tvm import relax, tirx
from tvm.script import tirx as T

from handglass.schedules.isa.integer_isa import find_integer_isa
from handglass.targets.target import Target

from .amx_probes import add_tile_probes
from .dot_probe import dot_kernel, width
from .probe_function import READ_WIDTH, add_chains, add_read

CHAINS = 12
"""Independent chains: they cover two units with a latency of up to five and fit 16 registers."""


def add_cpu_probes(builder: relax.BlockBuilder, target: Target) -> None:
    """Add the four probes as exported functions, and those of tile registers if there are any."""
    lanes = target.vector_bits // 32  # floats in a register
    add_read(builder, read_kernel(lanes))
    add_chains(builder, "probe_fma", fma_kernel(lanes), CHAINS * lanes, "float32")
    isa = find_integer_isa(tvm.target.Target(target.tvm))
    for name, bits in (("probe_dot4", 4), ("probe_dot8", isa.byte_bits)):
        add_chains(builder, name, dot_kernel(isa, bits), width(isa, bits), "int32")
    add_tile_probes(builder, isa)


@functools.cache  # parsed once
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


@functools.cache  # parsed once
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
