"""In-place update of the int8 KV cache, with a float32 scale per position.

Each position of each kv head has a scale. Scales are (kv heads, context / 16, 16), so that those of
a panel of 16 positions are one vector. Codes are -127..127; value = code * scale.
"""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.script import tirx as T

from handglass.schedules.isa.register_tiles import LANES

from .layout import Layout

CODES = 127.0
TINY = 1e-30  # keeps the inverse of the scale finite if all values are 0


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
        for i, h in T.grid(s, T.int64(h_kv)):
            with T.sblock("append_keys"):
                vi, vh = T.axis.remap("SS", [i, h])
                T.sblock_attr({"handglass.pattern": "scatter"})
                row = T.sblock_alloc_buffer((T.int64(e),), "float32")
                peak = T.sblock_alloc_buffer((T.int64(1),), "float32")
                peak[0] = T.float32(TINY)
                for c in range(T.int64(e)):
                    row[c] = (
                        qkv[vi, (first + vh) * e + c] * rotations[pos + vi, c % half]
                        + T.Select(c < half, T.float32(-1), T.float32(1))
                        * qkv[vi, (first + vh) * e + (c + half) % e]
                        * rotations[pos + vi, half + c % half]
                    )
                    peak[0] = T.max(peak[0], T.max(row[c], -row[c]))
                scales[vh, (pos + vi) // LANES, (pos + vi) % LANES] = peak[0] / T.float32(CODES)
                for c in range(T.int64(e)):
                    cache[vh, (pos + vi) // LANES, c, (pos + vi) % LANES] = T.Cast(
                        "int8", T.nearbyint(row[c] * (T.float32(CODES) / peak[0]))
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
        for i, h in T.grid(s, T.int64(h_kv)):
            with T.sblock("append_values"):
                vi, vh = T.axis.remap("SS", [i, h])
                T.sblock_attr({"handglass.pattern": "scatter"})
                peak = T.sblock_alloc_buffer((T.int64(1),), "float32")
                peak[0] = T.float32(TINY)
                for c in range(T.int64(e)):
                    peak[0] = T.max(
                        peak[0],
                        T.max(qkv[vi, (first + vh) * e + c], -qkv[vi, (first + vh) * e + c]),
                    )
                scales[vh, (pos + vi) // LANES, (pos + vi) % LANES] = peak[0] / T.float32(CODES)
                for c in range(T.int64(e)):
                    cache[vh, pos + vi, c] = T.Cast(
                        "int8",
                        T.nearbyint(qkv[vi, (first + vh) * e + c] * (T.float32(CODES) / peak[0])),
                    )

    return append_values
