"""Causal depthwise convolution over time, with SiLU; the last inputs are kept in place.

c[t] = silu(sum_k weight[k] x[t - taps + 1 + k]). Inputs before the first row come from `tail`,
which holds the last taps - 1 inputs of earlier calls and is then advanced.
"""

from __future__ import annotations

import functools
from math import gcd

from tvm import tirx
from tvm.script import tirx as T

from handglass.schedules.isa.register_tiles import LANES

from .exponential import sigmoid


@functools.cache  # parsed once for all layers
def conv_writer(width: int, channels: int, taps: int) -> tirx.PrimFunc:
    """tail (taps - 1, channels) in place, x (s, width), weight (taps, channels) -> (s, channels).

    The first `channels` columns of x are read.
    """
    lanes = gcd(channels, LANES)
    before, blocks = taps - 1, channels // lanes

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
        for block in range(T.int64(blocks)):
            with T.sblock("conv"):
                b = T.axis.spatial(T.int64(blocks), block)
                T.reads(x[0:s, 0:width], weight[0:taps, 0:channels])
                T.writes(
                    tail[0:before, b * lanes : b * lanes + lanes],
                    out[0:s, b * lanes : b * lanes + lanes],
                )
                T.sblock_attr(
                    {
                        "handglass.pattern": "recurrence",
                        "handglass.multiply_adds": [T.int64(taps * channels), s],
                    }
                )
                total = T.sblock_alloc_buffer((T.int64(lanes),), "float32")
                for i in range(s):
                    for lane in T.vectorized(T.int64(lanes)):
                        total[lane] = T.float32(0)
                    for k in T.unroll(T.int64(taps)):
                        for lane in T.vectorized(T.int64(lanes)):
                            total[lane] += weight[k, b * lanes + lane] * T.if_then_else(
                                i + k >= before,
                                x[i + k - before, b * lanes + lane],
                                tail[i + k, b * lanes + lane],
                            )
                    for lane in T.vectorized(T.int64(lanes)):
                        out[i, b * lanes + lane] = total[lane] * sigmoid(total[lane])
                for k in T.unroll(T.int64(before)):
                    for lane in T.vectorized(T.int64(lanes)):
                        tail[k, b * lanes + lane] = T.if_then_else(
                            s + k >= before,
                            x[s + k - before, b * lanes + lane],
                            tail[s + k, b * lanes + lane],
                        )

    return causal_conv
