"""The probes of probes.py for a GPU: a task is a workgroup, a chain is one value of a thread.

Results have the same meaning as on a CPU, so the runtime counts them alike; it starts many more
tasks.
"""

from __future__ import annotations

import functools

from tvm import relax, tirx
from tvm.script import tirx as T

from .probe_function import READ_WIDTH, add_chains, add_read

THREADS = 64
CHAINS = 8
"""Chains per thread: they hide the latency of a multiply-add and need few registers."""
WIDTH = THREADS * CHAINS
PRODUCTS = 4
"""Byte products per instruction."""


def add_gpu_probes(builder: relax.BlockBuilder) -> None:
    """Add the four probes as exported functions."""
    add_read(builder, read_kernel())
    add_chains(builder, "probe_fma", fma_kernel(), WIDTH, "float32")
    for name in ("probe_dot4", "probe_dot8"):  # one instruction serves both
        add_chains(builder, name, dot_kernel(), PRODUCTS * WIDTH, "int32")


@functools.cache  # parsed once
def read_kernel() -> tirx.PrimFunc:
    @T.prim_func(private=True, s_tir=True)
    def probe_read_kernel(data: T.handle, out: T.handle):
        tasks, steps = T.int64(), T.int64()
        x = T.match_buffer(data, (tasks, steps, T.int64(READ_WIDTH)), "float32")
        y = T.match_buffer(out, (tasks, T.int64(READ_WIDTH)), "float32")
        for task in T.thread_binding(tasks, thread="blockIdx.x"):
            for lane in T.thread_binding(T.int64(READ_WIDTH), thread="threadIdx.x"):
                with T.sblock("read"):
                    T.reads(x[task, 0:steps, lane])
                    T.writes(y[task, lane])
                    total = T.alloc_buffer((1,), "float32", scope="local")
                    total[0] = T.float32(0)
                    for step in T.serial(steps):
                        total[0] = total[0] + x[task, step, lane]
                    y[task, lane] = total[0]

    return probe_read_kernel


@functools.cache  # parsed once
def fma_kernel() -> tirx.PrimFunc:
    @T.prim_func(private=True, s_tir=True)
    def probe_fma_kernel(rounds: T.int64, out: T.handle):
        tasks = T.int64()
        y = T.match_buffer(out, (tasks, T.int64(WIDTH)), "float32")
        for task in T.thread_binding(tasks, thread="blockIdx.x"):
            for lane in T.thread_binding(T.int64(THREADS), thread="threadIdx.x"):
                with T.sblock("fma"):
                    T.reads()
                    T.writes(y[task, 0:WIDTH])
                    value = T.alloc_buffer((CHAINS,), "float32", scope="local")
                    for c in T.unroll(CHAINS):
                        value[c] = T.Cast("float32", c)
                    for _ in T.serial(rounds):
                        for c in T.unroll(CHAINS):
                            value[c] = value[c] * T.float32(0.5) + T.float32(0.5)
                    for c in T.unroll(CHAINS):
                        y[task, c * THREADS + lane] = value[c]

    return probe_fma_kernel


@functools.cache  # parsed once
def dot_kernel() -> tirx.PrimFunc:
    """Dot products of four bytes. One factor is the previous sum, so that the compiler cannot hoist
    the multiplication."""

    @T.prim_func(private=True, s_tir=True)
    def probe_dot_kernel(rounds: T.int64, out: T.handle):
        tasks = T.int64()
        y = T.match_buffer(out, (tasks, T.int64(PRODUCTS * WIDTH)), "int32")
        for task in T.thread_binding(tasks, thread="blockIdx.x"):
            for lane in T.thread_binding(T.int64(THREADS), thread="threadIdx.x"):
                with T.sblock("dot"):
                    T.reads()
                    T.writes(y[task, 0 : PRODUCTS * WIDTH])
                    value = T.alloc_buffer((CHAINS,), "int32", scope="local")
                    for c in T.unroll(CHAINS):
                        value[c] = T.Cast("int32", lane + c)
                    for _ in T.serial(rounds):
                        for c in T.unroll(CHAINS):
                            value[c] = T.call_pure_extern(
                                "int32", "__dp4a", value[c], T.int32(0x03FD0201), value[c]
                            )
                    for c in T.unroll(CHAINS):
                        for e in T.unroll(PRODUCTS):
                            y[task, (e * CHAINS + c) * THREADS + lane] = value[c]

    return probe_dot_kernel
