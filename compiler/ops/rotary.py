"""Rotary positions, and attention of rotated queries over the cache.

Half-split form (Su et al. 2021, https://arxiv.org/abs/2104.09864): element j of the first half of a
head is rotated with element j of the second half. Sines and cosines are read from a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te, tirx

from .attention import attention
from .layout import Layout
from .lazy import Lazy


def table(
    context: int,
    head_dim: int,
    theta: float,
    rotary_dim: int | None = None,
    divisors: Sequence[float] = (),
    magnitude: float = 1.0,
) -> np.ndarray:
    """(context, head_dim) float32: cosines of each position, then sines.

    Angles are computed in float32, as in training. With `rotary_dim`, only the first rotary_dim / 2
    pairs of a head are rotated; the angle of the others is 0. Frequencies are divided by `divisors`
    (default: 1), cosines and sines of rotated pairs multiplied by `magnitude`.
    """
    rotated = rotary_dim or head_dim
    inverse = (1.0 / theta ** (np.arange(0, rotated, 2, dtype=np.float32) / rotated)).astype("f4")
    inverse = inverse / np.asarray(divisors or 1, np.float32)
    inverse = np.concatenate([inverse, np.zeros((head_dim - rotated) // 2, np.float32)])
    angle = np.arange(context, dtype=np.float32)[:, None] * inverse[None, :]
    factor = np.where(np.arange(head_dim // 2) < rotated // 2, magnitude, 1).astype(np.float32)
    return np.concatenate([np.cos(angle) * factor, np.sin(angle) * factor], axis=1)


def causal_attention(
    qkv: te.Tensor,
    rotations: te.Tensor,
    cache: Sequence[te.Tensor],
    pos,
    layout: Layout,
    tiles: bool | str = False,
) -> te.Tensor:
    """qkv (s, width) -> (s, heads * head_dim); query i attends to positions 0..pos + i.

    `cache` is keys, values and, for int8, the scales of both. `tiles`: see `attention`.
    """
    s, e = qkv.shape[0], layout.head_dim
    half = e // 2

    def rotated(inputs, i, h, c):
        qkv, rotations = inputs
        partner = qkv[i, h * e + (c + half) % e]
        cosine, sine = rotations[pos + i, c % half], rotations[pos + i, half + c % half]
        return qkv[i, h * e + c] * cosine + tirx.Select(c < half, -partner, partner) * sine

    q = Lazy("rotated", (s, layout.heads, e), (qkv, rotations), rotated)
    keys, values, *scales = cache
    return attention(q, keys, values, e**-0.5, lambda i: pos + i + 1, tuple(scales), tiles)
