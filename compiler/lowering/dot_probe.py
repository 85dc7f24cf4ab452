"""Peak throughput of integer dot products on a CPU, for `handglass bench`: see cpu_probes.py.

In every round, each of CHAINS accumulators adds the product of a constant weight and activations in
the L1 cache. The activations change each round; otherwise LLVM would hoist the multiplication.
"""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.script import tirx as T

from handglass.schedules.isa.dot_instructions import instruction
from handglass.schedules.isa.integer_isa import IntegerIsa

CHAINS, VARIANTS = 12, 8


def width(isa: IntegerIsa, bits: int) -> int:
    """Number of products in one round."""
    return CHAINS * isa.lanes * isa.codes(bits).step


@functools.cache  # parsed once
def dot_kernel(isa: IntegerIsa, bits: int) -> tirx.PrimFunc:
    use, codes, lanes = instruction(isa, bits), isa.codes(bits), isa.lanes
    count, dtype = lanes * codes.step, "int8" if bits == 4 and not codes.zero else codes.dtype
    narrow, wide = use.sums.split("x")[0], int(use.sums.split("x")[1])
    widen = use.widen or (lambda sums: sums)

    @T.prim_func(private=True, s_tir=True)
    def kernel(rounds: T.int64, out: T.handle) -> None:
        tasks = T.int64()
        y = T.match_buffer(out, (tasks, T.int64(CHAINS * count)), "int32")
        for task in T.parallel(tasks):
            with T.sblock("dot"):
                T.reads()
                T.writes(y[task, 0 : CHAINS * count])
                x = T.alloc_buffer((VARIANTS, CHAINS * count), codes.activation)
                sums = T.alloc_buffer((CHAINS, wide), narrow, scope="local")
                for v, k in T.grid(VARIANTS, CHAINS * count):
                    x[v, k] = T.Cast(codes.activation, (v + k) % 5 - 2)
                for c in T.unroll(CHAINS):
                    sums[c, T.ramp(0, 1, wide)] = T.broadcast(tirx.const(0, narrow), wide)
                for r in T.serial(rounds):
                    for c in T.unroll(CHAINS):
                        sums[c, T.ramp(0, 1, wide)] = use.multiply(
                            sums[c, T.ramp(0, 1, wide)],
                            T.broadcast(tirx.const(3, dtype), count),
                            x.vload([r % VARIANTS, c * count], f"{codes.activation}x{count}"),
                        )
                for c in T.unroll(CHAINS):
                    for e in T.unroll(codes.step):
                        y[task, T.ramp((e * CHAINS + c) * lanes, 1, lanes)] = widen(
                            sums[c, T.ramp(0, 1, wide)]
                        )

    return kernel
