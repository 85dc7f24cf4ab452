"""The causal convolution in stages that GPU threads can share.

The results equal those of causal_conv.py. A thread computes one output. The last inputs are kept by
a second kernel, a thread per channel, because outputs of the first one still read the earlier ones.
"""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.script import tirx as T

from .exponential import sigmoid


@functools.cache  # parsed once for all layers
def conv_writer(width: int, channels: int, taps: int) -> tirx.PrimFunc:
    """tail (taps - 1, channels) in place, x (s, width), weight (taps, channels) -> (s, channels).

    The first `channels` columns of x are read.
    """
    before = taps - 1

    @T.prim_func(private=True, s_tir=True)
    def causal_conv(
        tail: T.Buffer((T.int64(before), T.int64(channels)), "float32"),
        x_handle: T.handle,
        weight: T.Buffer((T.int64(taps), T.int64(channels)), "float32"),
        out_handle: T.handle,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        x = T.match_buffer(x_handle, (s, T.int64(width)), "float32")
        out = T.match_buffer(out_handle, (s, T.int64(channels)), "float32")
        for i, c in T.grid(s, T.int64(channels)):
            with T.sblock("conv"):
                vi, vc = T.axis.remap("SS", [i, c])
                T.reads(x[0:s, vc], tail[0:before, vc], weight[0:taps, vc])
                T.writes(out[vi, vc])
                T.sblock_attr(
                    {
                        "handglass.pattern": "recurrence",
                        "handglass.multiply_adds": [T.int64(taps * channels), s],
                    }
                )
                total = T.sblock_alloc_buffer((T.int64(1),), "float32", scope="local")
                total[0] = T.float32(0)
                for k in T.unroll(T.int64(taps)):
                    total[0] += weight[k, vc] * T.if_then_else(
                        vi + k >= before, x[vi + k - before, vc], tail[vi + k, vc]
                    )
                out[vi, vc] = total[0] * sigmoid(total[0])
        for c in range(T.int64(channels)):
            with T.sblock("tail"):
                vc = T.axis.spatial(T.int64(channels), c)
                T.reads(x[0:s, vc])  # a schedule takes no block that reads what it writes
                T.writes(tail[0:before, vc])
                T.sblock_attr({"handglass.pattern": "recurrence"})
                for k in T.unroll(T.int64(before)):
                    tail[k, vc] = T.if_then_else(
                        s + k >= before, x[s + k - before, vc], tail[s + k, vc]
                    )

    return causal_conv
