"""Rotary positions, writing keys and values into the cache in place, and attention over it.

Half-split form (Su et al. 2021, https://arxiv.org/abs/2104.09864): element j of the first half and
element j of the second half of a head turn together. Sines and cosines come from a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op
from tvm.script import tirx as T

from handglass.schedules.dot import LANES

from .attention import attention


@dataclass(frozen=True)
class Layout:
    """Columns of qkv: `heads` queries, then `kv_heads` keys, then as many values."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def key_shape(kv_heads: int, context: int, head_dim: int) -> tuple[int, int, int, int]:
    """Cached keys: panels of 16 positions, as `attention` reads them."""
    return kv_heads, context // LANES, head_dim, LANES


def table(context: int, head_dim: int, theta: float) -> np.ndarray:
    """(context, head_dim): cosines of every position, then sines. Angles in float32, as trained."""
    half = head_dim // 2
    inverse = (1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)).astype("f4")
    angle = np.arange(context, dtype=np.float32)[:, None] * inverse[None, :half]
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def causal_attention(
    qkv: te.Tensor, rotations: te.Tensor, keys: te.Tensor, values: te.Tensor, pos, layout: Layout
) -> te.Tensor:
    """Query i, at position pos + i, sees positions 0 .. pos + i. -> (s, heads * head_dim)."""
    s, e = qkv.shape[0], layout.head_dim
    half = e // 2

    def rotated(i, h, c):
        partner = qkv[i, h * e + (c + half) % e]
        cosine, sine = rotations[pos + i, c % half], rotations[pos + i, half + c % half]
        return qkv[i, h * e + c] * cosine + tirx.Select(c < half, -partner, partner) * sine

    q = te.compute((s, layout.heads, e), rotated, name="rotated")
    return attention(q, keys, values, e**-0.5, lambda i: pos + i + 1)


def append_keys(
    cache: nn.Tensor, qkv: nn.Tensor, rotations: nn.Tensor, pos: tirx.Var, layout: Layout
) -> nn.Tensor:
    """Write the rotated keys of qkv (s, width) at pos .. pos + s; the result is `cache` itself."""
    func = _key_writer(layout, cache.shape[1], rotations.shape[0], cache.dtype)
    return _in_place(func, "append_keys", cache, [qkv, rotations, pos])


def append_values(cache: nn.Tensor, qkv: nn.Tensor, pos: tirx.Var, layout: Layout) -> nn.Tensor:
    """Write the values of qkv (s, width) at pos .. pos + s; the result is `cache` itself."""
    func = _value_writer(layout, cache.shape[1], cache.dtype)
    return _in_place(func, "append_values", cache, [qkv, pos])


def _in_place(func: tirx.PrimFunc, name: str, cache: nn.Tensor, rest: list) -> nn.Tensor:
    out = nn.Tensor.placeholder(cache.shape, cache.dtype)
    return op.tensor_ir_inplace_op(func, name, [cache, *rest], 0, out)


def _key_writer(layout: Layout, blocks: int, context: int, dtype: str) -> tirx.PrimFunc:
    h_kv, e, width, first = layout.kv_heads, layout.head_dim, layout.width, layout.heads
    half = e // 2

    @T.prim_func(private=True, s_tir=True)
    def append_keys(
        cache: T.Buffer((T.int64(h_kv), T.int64(blocks), T.int64(e), T.int64(LANES)), dtype),
        qkv_handle: T.handle,
        rotations: T.Buffer((T.int64(context), T.int64(e)), "float32"),
        pos: T.int64,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        qkv = T.match_buffer(qkv_handle, (s, T.int64(width)), "float32")
        for i, h, c in T.grid(s, T.int64(h_kv), T.int64(e)):
            with T.sblock("append_keys"):
                vi, vh, vc = T.axis.remap("SSS", [i, h, c])
                T.reads(qkv[vi, 0:width], rotations[pos + vi, 0:e])
                T.writes(cache[vh, (pos + vi) // LANES, vc, (pos + vi) % LANES])
                T.sblock_attr({"handglass.pattern": "scatter"})
                cache[vh, (pos + vi) // LANES, vc, (pos + vi) % LANES] = T.Cast(
                    dtype,
                    qkv[vi, (first + vh) * e + vc] * rotations[pos + vi, vc % half]
                    + T.Select(vc < half, T.float32(-1), T.float32(1))
                    * qkv[vi, (first + vh) * e + (vc + half) % e]
                    * rotations[pos + vi, half + vc % half],
                )

    return append_keys


def _value_writer(layout: Layout, context: int, dtype: str) -> tirx.PrimFunc:
    h_kv, e, width = layout.kv_heads, layout.head_dim, layout.width
    first = layout.heads + layout.kv_heads

    @T.prim_func(private=True, s_tir=True)
    def append_values(
        cache: T.Buffer((T.int64(h_kv), T.int64(context), T.int64(e)), dtype),
        qkv_handle: T.handle,
        pos: T.int64,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        qkv = T.match_buffer(qkv_handle, (s, T.int64(width)), "float32")
        for i, h, c in T.grid(s, T.int64(h_kv), T.int64(e)):
            with T.sblock("append_values"):
                vi, vh, vc = T.axis.remap("SSS", [i, h, c])
                T.reads(qkv[vi, (first + vh) * e + vc])
                T.writes(cache[vh, pos + vi, vc])
                cache[vh, pos + vi, vc] = T.Cast(dtype, qkv[vi, (first + vh) * e + vc])

    return append_values
