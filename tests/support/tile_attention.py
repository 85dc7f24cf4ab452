"""Attention in tile registers, small, with inputs and the result in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from arm_kernels import Kernel, like, placeholder
from attention_reference import CONTEXT, as_kept, attend, cache_of, normal, rotated
from tolerance import TILE_ATTENTION
from tvm import te, tirx

from handglass.compiler.ops import rotary
from handglass.compiler.ops.attention import attention_over_all
from handglass.compiler.ops.layout import Layout
from handglass.compiler.ops.lazy import stored
from handglass.compiler.parity.stored_weights import round_bfloat16

LARGEST = TILE_ATTENTION.largest


def attend_rounded(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, pos: int | None = None
) -> np.ndarray:
    """`attend` with the numbers that tiles hold; queries are rounded times their factor."""
    factor = np.float32(q.shape[2] ** -0.5 * math.log2(math.e))
    q = round_bfloat16(q.astype(np.float32) * factor) / factor
    k, v = (round_bfloat16(x.astype(np.float32)) for x in (k, v))
    return attend(q, k, v, pos)


def over_picture(heads: int = 2, kv: int = 2, d: int = 72, queries: int | None = None) -> Kernel:
    """All see all, for any number of positions; the inputs have 77."""
    n, count = tirx.Var("n", "int64"), 77
    q, k, v = picture_inputs(queries or count, count, heads, kv, d)
    shapes = [(queries or n, heads, d), (n, kv, d), (n, kv, d)]
    tensors = [placeholder(s, "float32", name) for s, name in zip(shapes, "qkv", strict=True)]
    q_view, k_view, v_view = map(stored, tensors)
    y = attention_over_all(q_view, k_view, v_view, d**-0.5, tiles=True)
    func = te.create_prim_func([*tensors, y])
    return Kernel(func, [q, k, v], [attend_rounded(q, k, v).astype(np.float32)], LARGEST)


def picture_inputs(s: int, n: int, heads: int, kv: int, d: int) -> list[np.ndarray]:
    return [normal(s, heads, d), normal(n, kv, d), normal(n, kv, d, seed=8)]


def over_cache(
    dtype: str = "float16", s: int = 39, pos: int = 45, heads: int = 6, kv: int = 2, d: int = 64
) -> Kernel:
    """Prefill of s positions after `pos` others; the rest of a cache of floats is NaN."""
    layout, table = Layout(heads, kv, d), rotary.table(CONTEXT, d, 10000.0)
    inputs, truth = cache_inputs(dtype, s, pos, layout)
    x = placeholder((tirx.Var("s", "int64"), layout.width), "float32")
    t = placeholder(table.shape, "float32", "t")
    cache = like({f"c{i}": part for i, part in enumerate(inputs[3:])})
    at = tirx.Var("pos", "int64")
    y = rotary.causal_attention(x, t, tuple(cache), at, layout, tiles=True)
    func = te.create_prim_func([x, t, at, *cache, y])
    return Kernel(func, inputs, [truth.astype(np.float32)], LARGEST)


def cache_inputs(dtype: str, s: int, pos: int, layout: Layout) -> tuple[list, np.ndarray]:
    """The arguments (qkv, table, pos, *cache) and the result."""
    heads, kv, d = layout.heads, layout.kv_heads, layout.head_dim
    table = rotary.table(CONTEXT, d, 10000.0)
    q, k, v = normal(s, heads, d), normal(pos + s, kv, d), normal(pos + s, kv, d, seed=8)
    qkv = np.concatenate([q.reshape(s, -1), np.zeros((s, 2 * kv * d), np.float32)], axis=1)
    turned = rotated(q, table[pos : pos + s])
    truth = attend_rounded(turned, as_kept(k, dtype), as_kept(v, dtype), pos)
    return [qkv, table, pos, *cache_of(k, v, np.nan, dtype)], truth


SPACES: dict[str, Callable[[], Kernel]] = {
    "vision": over_picture,
    "resampler": partial(over_picture, 4, 4, 128, queries=10),
    **{f"prefill_{kept}": partial(over_cache, kept) for kept in ("float32", "float16", "int8")},
}
"""A kernel of each kind, whose search space is tested."""
