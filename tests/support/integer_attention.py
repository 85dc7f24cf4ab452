"""Attention with integer scores, small, with inputs and the result in numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from arm_kernels import Kernel, placeholder
from attention_reference import attend, normal
from tolerance import BYTE_SCORES, CODED_ATTENTION, WORD_SCORES, Tolerance
from tvm import te, tirx

from handglass.compiler.ops.attention import attention_over_all
from handglass.compiler.ops.lazy import stored
from handglass.schedules.isa.score_products import BYTES, WORDS, ScoreCodes

UNROUNDED: dict[str, Tolerance] = {WORDS.name: WORD_SCORES, BYTES.name: BYTE_SCORES}
"""Against the unrounded queries and keys."""


def over_picture(
    codes: ScoreCodes, heads: int = 2, kv: int = 2, d: int = 72, queries: int | None = None
) -> Kernel:
    """All see all, for any number of positions; the inputs have 77."""
    n, count = tirx.Var("n", "int64"), 77
    q, k, v = inputs(queries or count, count, heads, kv, d)
    shapes = [(queries or n, heads, d), (n, kv, d), (n, kv, d)]
    tensors = [placeholder(s, "float32", name) for s, name in zip(shapes, "qkv", strict=True)]
    q_view, k_view, v_view = map(stored, tensors)
    y = attention_over_all(q_view, k_view, v_view, d**-0.5, tiles=codes.name)
    func = te.create_prim_func([*tensors, y])
    truth = attend_coded(q, k, v, codes).astype(np.float32)
    return Kernel(func, [q, k, v], [truth], CODED_ATTENTION.largest)


def inputs(s: int, n: int, heads: int, kv: int, d: int) -> list[np.ndarray]:
    return [normal(s, heads, d, seed=9), normal(n, kv, d), normal(n, kv, d, seed=8)]


def attend_coded(q: np.ndarray, k: np.ndarray, v: np.ndarray, codes: ScoreCodes) -> np.ndarray:
    """`attend` with the queries and keys that the codes stand for."""
    limit = codes.limit(q.shape[2])
    return attend(as_coded(q, limit), as_coded(k - k.mean(0, dtype=np.float32), limit), v)


def as_coded(x: np.ndarray, limit: int) -> np.ndarray:
    """x (n, h, d) after a round trip through codes, in float64."""
    peak = np.abs(x).max(-1, keepdims=True)
    factor = np.divide(np.float32(limit), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(x * factor).astype(np.float64) * (peak / np.float32(limit))


SPACES: dict[str, Callable[[ScoreCodes], Kernel]] = {
    "vision": over_picture,
    "resampler": partial(over_picture, heads=4, kv=4, d=128, queries=10),
}
"""A kernel of each kind, whose search space is tested."""
