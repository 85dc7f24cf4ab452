"""In-place update of the KV cache, in the layout that attention reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op
from tvm.script import tirx as T

from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.replace_nest import renamed

from . import gpu_quantized_cache, quantized_cache
from .layout import Layout
from .scope import on_gpu


def append(
    cache: Sequence[nn.Tensor], qkv: nn.Tensor, rotations: nn.Tensor, pos: tirx.Var, layout: Layout
) -> list[nn.Tensor]:
    """Write the rotated keys and the values of qkv (s, width) at positions pos..pos + s - 1.

    `cache` is keys, values and, for int8, the scales of both. Returns the updated cache.
    """
    keys, values, *scales = cache
    blocks, context = keys.shape[1], rotations.shape[0]
    if not scales:
        write_keys = _key_writer(layout, blocks, context, keys.dtype)
        write_values = _value_writer(layout, values.shape[1], values.dtype)
    else:
        written = gpu_quantized_cache if on_gpu() else quantized_cache
        write_keys = written.key_writer(layout, blocks, context)
        write_values = written.value_writer(layout, blocks)
    rows = qkv.shape[0]
    if not on_gpu() and isinstance(rows, int) and rows == 1:
        write_keys, write_values = _of_one_row(write_keys), _of_one_row(write_values)
    kept_keys = _in_place(write_keys, "append_keys", [keys, *scales[:1]], [qkv, rotations, pos])
    kept_values = _in_place(write_values, "append_values", [values, *scales[1:]], [qkv, pos])
    return [kept_keys[0], kept_values[0], *kept_keys[1:], *kept_values[1:]]


def _in_place(func: tirx.PrimFunc, name: str, kept: list, rest: list) -> list[nn.Tensor]:
    """Call `func`, which updates its first arguments, the tensors `kept`, in place."""
    out = [nn.Tensor.placeholder(tensor.shape, tensor.dtype) for tensor in kept]
    result = op.tensor_ir_inplace_op(func, name, [*kept, *rest], list(range(len(kept))), out)
    return list(result) if isinstance(result, list | tuple) else [result]


@functools.cache
def _of_one_row(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The writer for a decode step, which then starts no threads for a few hundred elements."""
    (qkv,) = (param for param in func.params if param.name == "qkv")
    return renamed(func, [qkv.shape[0]], [tirx.IntImm("int64", 1)])


@functools.cache  # parsed once for all layers
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


@functools.cache  # parsed once for all layers
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
