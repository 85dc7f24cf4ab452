"""Attention on a GPU, over lengths that end inside, at or after a chunk of positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from attention_reference import CONTEXT, as_kept, attend, cache_of, check, normal, rotated
from operator_device import different
from tvm import te
from vulkan_operator import build, scheduled, written
from vulkan_running import kernel_count, needs_vulkan
from vulkan_targets import PORTABLE, limited

from handglass.compiler.ops import rotary
from handglass.compiler.ops.attention import attention, head_major, heads_of, key_panels
from handglass.compiler.ops.layout import Layout, key_shape, scale_shape
from handglass.schedules.choices import DEFAULTS, Choices, Written
from handglass.schedules.gpu import attention as rule

pytestmark = pytest.mark.compiler

LENGTHS = (1, 7, 64, 333)


# --- no mask: vision, resampler ---


def full(s: int | str, heads: int, kv_heads: int, d: int, choices: Choices = DEFAULTS) -> Callable:
    """(q, k, v) -> attention, with the views and the packing that models use."""

    def compute(q: te.Tensor, k: te.Tensor, v: te.Tensor) -> te.Tensor:
        keys = key_panels(heads_of(k, kv_heads, d))
        values = head_major(heads_of(v, kv_heads, d))
        return attention(heads_of(q, heads, d), keys, values, d**-0.5, lambda i: k.shape[0])

    kv = (("n", kv_heads * d), "float32")
    kernel = build(compute, ((s, heads * d), "float32"), kv, kv, choices=choices)

    def call(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        flat = [x.reshape(len(x), -1) for x in (q, k, v)]
        return kernel(*flat, out=[((len(q), heads * d), "float32")])[0]

    return call


@needs_vulkan
@pytest.mark.parametrize(
    ("heads", "kv_heads", "d"),
    [(2, 2, 72), (2, 1, 64), (2, 2, 8), (1, 1, 62), (3, 1, 20), (1, 1, 128), (1, 1, 96)],
)
def test_full(heads: int, kv_heads: int, d: int) -> None:
    kernel = full("s", heads, kv_heads, d)
    for n in LENGTHS:
        for s in (1, 7, 64):
            q, k, v = normal(s, heads, d), normal(n, kv_heads, d), normal(n, kv_heads, d, seed=8)
            check(kernel(q, k, v), attend(q, k, v))


@needs_vulkan
@pytest.mark.parametrize("s", [1, 5, 10, 64])
def test_full_with_a_fixed_number_of_queries(s: int) -> None:
    kernel = full(s, 4, 2, 24)
    for n in LENGTHS:
        q, k, v = normal(s, 4, 24), normal(n, 2, 24), normal(n, 2, 24, seed=8)
        check(kernel(q, k, v), attend(q, k, v))


@needs_vulkan
def test_huge_scores() -> None:
    """One score exceeds the others by thousands: their weights are zero, without overflow."""
    q, k, v = normal(4, 2, 8) * 300, normal(333, 2, 8) * 300, normal(333, 2, 8)
    check(full("s", 2, 2, 8)(q, k, v), attend(q, k, v), 1e-5)


@needs_vulkan
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_no_number_spoils_only_itself(bad: float) -> None:
    q, k, v = normal(14, 2, 16), normal(40, 2, 16), normal(40, 2, 16, seed=8)
    truth = attend(q, k, v)
    q[3, 1, 5] = bad
    actual = full("s", 2, 2, 16)(q, k, v)
    assert not np.isfinite(actual[3, 16:]).all()
    actual[3, 16:] = truth[3, 16:]
    check(actual, truth)


# --- the decoder: a cache and a causal mask ---


def causal(
    s: int | str, layout: Layout, dtype: str, choices: Choices = DEFAULTS, target: dict = PORTABLE
) -> Callable:
    """(qkv, table, pos, *cache) -> attention of rotated queries."""
    h_kv, d = layout.kv_heads, layout.head_dim
    cache = [(key_shape(h_kv, CONTEXT, d), dtype), ((h_kv, CONTEXT, d), dtype)]
    scales = [(scale_shape(h_kv, CONTEXT), "float32")] * 2 if dtype == "int8" else []
    kernel = build(
        lambda qkv, table, pos, *cache: rotary.causal_attention(qkv, table, cache, pos, layout),
        ((s, layout.width), "float32"),
        ((CONTEXT, d), "float32"),
        ((), "int64"),
        *cache,
        *scales,
        choices=choices,
        target=target,
    )
    width = layout.heads * d
    return lambda qkv, *rest: kernel(qkv, *rest, out=[((len(qkv), width), "float32")])[0]


def check_causal(kernel: Callable, layout: Layout, dtype: str, s: int, pos: int) -> None:
    """The cache is NaN after the last position, which must not affect the result."""
    h_kv, d = layout.kv_heads, layout.head_dim
    table = rotary.table(CONTEXT, d, 10000.0)
    q = normal(s, layout.heads, d)
    k, v = (normal(pos + s, h_kv, d, seed=seed) for seed in (8, 9))
    rest = np.zeros((s, 2 * h_kv * d), np.float32)
    qkv = np.concatenate([q.reshape(s, -1), rest], axis=1)
    actual = kernel(qkv, table, pos, *cache_of(k, v, np.nan, dtype))
    truth = attend(rotated(q, table[pos : pos + s]), as_kept(k, dtype), as_kept(v, dtype), pos)
    check(actual, truth, 2e-6 * max(1, layout.head_dim / 128))  # a score is a sum of d products


@needs_vulkan
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "d"), [(4, 2, 64), (2, 2, 72), (5, 1, 8), (4, 1, 80), (4, 1, 256)]
)
def test_causal(heads: int, kv_heads: int, d: int, dtype: str) -> None:
    layout = Layout(heads, kv_heads, d)
    for rows, sizes in ((1, [1]), ("s", [1, 7, 64])):
        kernel = causal(rows, layout, dtype)
        for s in sizes:
            for pos in (0, 1, 15, 16, 127, 333):
                check_causal(kernel, layout, dtype, s, pos)


@needs_vulkan
def test_a_long_prompt() -> None:
    check_causal(causal("s", Layout(2, 1, 16), "float32"), Layout(2, 1, 16), "float32", 333, 0)


@needs_vulkan
def test_a_value_that_is_no_number_spoils_only_those_who_see_it() -> None:
    layout, s, bad = Layout(4, 2, 16), 40, 21
    q, k, v = normal(s, 4, 16), normal(s, 2, 16), normal(s, 2, 16, seed=8)
    table = rotary.table(CONTEXT, 16, 10000.0)
    truth = attend(rotated(q, table[:s]), k, v, 0)
    k[bad], v[bad] = np.nan, np.inf
    qkv = np.concatenate([q.reshape(s, -1), np.zeros((s, 64), np.float32)], axis=1)
    actual = causal("s", layout, "float32")(qkv, table, 0, *cache_of(k, v, 0.0, "float32"))
    assert not np.isfinite(actual[bad:]).any()
    check(actual[:bad], truth[:bad])


# --- limits and choices ---


def self_attention(qkv: te.Tensor) -> te.Tensor:
    n, d = qkv.shape[0], 72
    q, k, v = (heads_of(qkv, 2, d, part * 2 * d) for part in range(3))
    keys, values = key_panels(k), head_major(v)
    return attention(q, keys, values, d**-0.5, lambda i: n)


def test_the_rule_takes_the_whole_function() -> None:
    func, name = scheduled(written(self_attention, (["n", 432], "float32")))
    assert name == "vulkan-attention"
    assert kernel_count(func) == 2  # keys into their layout, and the nest


@needs_vulkan
@pytest.mark.parametrize("target", different(limited((64, 8192), (128, 16384), (1024, 49152))))
def test_workgroups_follow_the_target(target: dict) -> None:
    layout = Layout(4, 2, 80)
    check_causal(causal("s", layout, "float32", target=target), layout, "float32", 9, 150)


@needs_vulkan
@pytest.mark.parametrize("unroll", rule.UNROLL)
def test_every_choice_is_right(unroll: int) -> None:
    layout = Layout(4, 2, 16)
    chosen = Written({f"{name}.unroll": unroll for name in ("scores", "mix", "edge")})
    check_causal(causal("s", layout, "float32", chosen), layout, "float32", 20, 130)
    copies = {"threads.0": 64, "scores.unroll": unroll, "mix.unroll": unroll}
    q, k, v = normal(20, 2, 16), normal(33, 2, 16), normal(33, 2, 16, seed=8)
    check(full("s", 2, 2, 16, Written(copies))(q, k, v), attend(q, k, v))
