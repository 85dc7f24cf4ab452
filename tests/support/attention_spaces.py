"""Attention kernels of every kind, small, with inputs and the result in numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from arm_kernels import Kernel, like, normal, placeholder
from attention_reference import CONTEXT, as_kept, attend, cache_of, rotated
from tolerance import HALF_ATTENTION
from tvm import te, tirx

from handglass.compiler.ops import rotary
from handglass.compiler.ops.attention import attention, head_major, key_panels
from handglass.compiler.ops.layout import Layout

TOLERANCE = 2e-6
ROUNDED = HALF_ATTENTION.largest


def over_picture(
    queries: int | None, s: int, heads: int = 4, kv: int = 2, d: int = 24, rounded: bool = False
) -> Kernel:
    """All see all: vision with as many queries as keys (None), or the resampler's constant number
    of queries. `rounded`: operands may have 16 bits."""
    n = tirx.Var("n", "int64")
    q, k, v = normal(queries or s, heads, d), normal(s, kv, d), normal(s, kv, d)
    shapes: list[tuple[Any, ...]] = [(queries or n, heads, d), (n, kv, d), (n, kv, d)]
    tensors = [
        placeholder(shape, "float32", name) for shape, name in zip(shapes, "qkv", strict=True)
    ]
    keys, values, limit = key_panels(tensors[1]), head_major(tensors[2]), lambda i: n
    y = attention(tensors[0], keys, values, d**-0.5, limit, tiles=rounded)
    func = te.create_prim_func([*tensors, y])
    return Kernel(func, [q, k, v], [attend(q, k, v)], ROUNDED if rounded else TOLERANCE)


def over_cache(
    dtype: str,
    s: int,
    pos: int,
    heads: int = 14,
    kv: int = 2,
    d: int = 16,
    rounded: bool = False,
) -> Kernel:
    """Prefill of s positions after `pos` others, or decoding (s = 1); the rest of the cache is NaN
    if it is of floats. `rounded`: operands may have 16 bits."""
    layout, table = Layout(heads, kv, d), rotary.table(CONTEXT, d, 10000.0)
    q, k, v = normal(s, heads, d), normal(pos + s, kv, d), normal(pos + s, kv, d)
    qkv = np.concatenate([q.reshape(s, -1), np.zeros((s, 2 * kv * d), np.float32)], axis=1)
    parts = cache_of(k, v, np.nan, dtype)
    rows = 1 if s == 1 else tirx.Var("s", "int64")
    x, t = placeholder((rows, layout.width), "float32"), placeholder(table.shape, "float32", "t")
    cache, at = like({f"c{i}": part for i, part in enumerate(parts)}), tirx.Var("pos", "int64")
    y = rotary.causal_attention(x, t, tuple(cache), at, layout, rounded)
    truth = attend(rotated(q, table[pos : pos + s]), as_kept(k, dtype), as_kept(v, dtype), pos)
    func = te.create_prim_func([x, t, at, *cache, y])
    given: list[np.ndarray | int] = [qkv, table, pos, *parts]
    return Kernel(func, given, [truth], ROUNDED if rounded else TOLERANCE)


SPACES: dict[str, Callable[[], Kernel]] = {
    "vision": partial(over_picture, None, 77),
    "resampler": partial(over_picture, 10, 77),
    "prefill_f32": partial(over_cache, "float32", 39, 45, heads=6),
    "prefill_f16": partial(over_cache, "float16", 39, 45),
    "prefill_int8": partial(over_cache, "int8", 39, 0, heads=6, d=24),
    "decode_f32": partial(over_cache, "float32", 1, 350, heads=2),
    "decode_f16": partial(over_cache, "float16", 1, 350),
    "decode_int8": partial(over_cache, "int8", 1, 17, heads=16),
}
"""A kernel of each kind, whose search space is tested."""
