"""Update of the int8 KV cache, in stages that GPU threads can share.

The results equal those of quantized_cache.py. A workgroup takes one position of one kv head: its
threads first reduce the largest magnitude, then each writes some of the codes.
"""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.script import tirx as T

from handglass.schedules.isa.register_tiles import LANES

from .layout import Layout
from .quantized_cache import CODES, TINY


@functools.cache  # parsed once for all layers
def key_writer(layout: Layout, blocks: int, context: int) -> tirx.PrimFunc:
    """Rotate the keys of qkv and write codes and scales at positions pos..pos + s - 1."""
    h_kv, e, width, first = layout.kv_heads, layout.head_dim, layout.width, layout.heads
    half = e // 2

    @T.prim_func(private=True, s_tir=True)
    def append_keys(
        cache: T.Buffer((T.int64(h_kv), T.int64(blocks), T.int64(e), T.int64(LANES)), "int8"),
        scales: T.Buffer((T.int64(h_kv), T.int64(blocks), T.int64(LANES)), "float32"),
        qkv_handle: T.handle,
        rotations: T.Buffer((T.int64(context), T.int64(e)), "float32"),
        pos: T.int64,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        qkv = T.match_buffer(qkv_handle, (s, T.int64(width)), "float32")
        row = T.sblock_alloc_buffer((s * T.int64(h_kv), T.int64(e)), "float32")
        peak = T.sblock_alloc_buffer((s * T.int64(h_kv),), "float32")
        for r, c in T.grid(s * T.int64(h_kv), T.int64(e)):
            with T.sblock("rotated"):
                vr, vc = T.axis.remap("SS", [r, c])
                row[vr, vc] = (
                    qkv[vr // h_kv, (first + vr % h_kv) * e + vc]
                    * rotations[pos + vr // h_kv, vc % half]
                    + T.Select(vc < half, T.float32(-1), T.float32(1))
                    * qkv[vr // h_kv, (first + vr % h_kv) * e + (vc + half) % e]
                    * rotations[pos + vr // h_kv, half + vc % half]
                )
        for r, c in T.grid(s * T.int64(h_kv), T.int64(e)):
            with T.sblock("peak"):
                vr, vc = T.axis.remap("SR", [r, c])
                with T.init():
                    peak[vr] = T.min_value("float32")
                peak[vr] = T.max(peak[vr], T.abs(row[vr, vc]))
        for r in range(s * T.int64(h_kv)):
            with T.sblock("scale"):
                vr = T.axis.spatial(s * T.int64(h_kv), r)
                T.sblock_attr({"handglass.pattern": "quantize"})
                scales[vr % h_kv, (pos + vr // h_kv) // LANES, (pos + vr // h_kv) % LANES] = T.max(
                    peak[vr], T.float32(TINY)
                ) / T.float32(CODES)
        for r, c in T.grid(s * T.int64(h_kv), T.int64(e)):
            with T.sblock("codes"):
                vr, vc = T.axis.remap("SS", [r, c])
                T.sblock_attr({"handglass.pattern": "quantize"})
                cache[vr % h_kv, (pos + vr // h_kv) // LANES, vc, (pos + vr // h_kv) % LANES] = (
                    T.Cast(
                        "int8",
                        T.nearbyint(
                            row[vr, vc] * (T.float32(CODES) / T.max(peak[vr], T.float32(TINY)))
                        ),
                    )
                )

    return append_keys


@functools.cache  # parsed once for all layers
def value_writer(layout: Layout, blocks: int) -> tirx.PrimFunc:
    """Write codes and scales of the values of qkv at positions pos..pos + s - 1."""
    h_kv, e, width = layout.kv_heads, layout.head_dim, layout.width
    first, context = layout.heads + layout.kv_heads, blocks * LANES

    @T.prim_func(private=True, s_tir=True)
    def append_values(
        cache: T.Buffer((T.int64(h_kv), T.int64(context), T.int64(e)), "int8"),
        scales: T.Buffer((T.int64(h_kv), T.int64(blocks), T.int64(LANES)), "float32"),
        qkv_handle: T.handle,
        pos: T.int64,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        qkv = T.match_buffer(qkv_handle, (s, T.int64(width)), "float32")
        peak = T.sblock_alloc_buffer((s * T.int64(h_kv),), "float32")
        for r, c in T.grid(s * T.int64(h_kv), T.int64(e)):
            with T.sblock("peak"):
                vr, vc = T.axis.remap("SR", [r, c])
                with T.init():
                    peak[vr] = T.min_value("float32")
                peak[vr] = T.max(peak[vr], T.abs(qkv[vr // h_kv, (first + vr % h_kv) * e + vc]))
        for r in range(s * T.int64(h_kv)):
            with T.sblock("scale"):
                vr = T.axis.spatial(s * T.int64(h_kv), r)
                T.sblock_attr({"handglass.pattern": "quantize"})
                scales[vr % h_kv, (pos + vr // h_kv) // LANES, (pos + vr // h_kv) % LANES] = T.max(
                    peak[vr], T.float32(TINY)
                ) / T.float32(CODES)
        for r, c in T.grid(s * T.int64(h_kv), T.int64(e)):
            with T.sblock("codes"):
                vr, vc = T.axis.remap("SS", [r, c])
                T.sblock_attr({"handglass.pattern": "quantize"})
                cache[vr % h_kv, pos + vr // h_kv, vc] = T.Cast(
                    "int8",
                    T.nearbyint(
                        qkv[vr // h_kv, (first + vr % h_kv) * e + vc]
                        * (T.float32(CODES) / T.max(peak[vr], T.float32(TINY)))
                    ),
                )

    return append_values
