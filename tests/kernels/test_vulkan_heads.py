"""Norms of each head of a row and the gates of recurrent layers on a GPU, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from operator_device import different
from tvm import te
from vulkan_operator import build, check, normal, scheduled, written
from vulkan_running import kernel_count, needs_vulkan
from vulkan_targets import EIGHT, PORTABLE

from handglass.compiler.ops import delta_rule, norm
from handglass.compiler.ops.delta_rule import Heads
from handglass.schedules.choices import Written
from handglass.schedules.gpu import rows

pytestmark = pytest.mark.compiler

EPS = 1e-6
ROWS = (1, 7, 64)
SMALL = PORTABLE | {"max_threads_per_block": 64, "max_num_threads": 64}
TARGETS = pytest.mark.parametrize(
    "target", different({"portable": PORTABLE, "small": SMALL, "subgroups": EIGHT})
)


def by_heads(x: np.ndarray, head_dim: int) -> np.ndarray:
    return x.reshape(len(x), -1, head_dim).astype(np.float64)


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x.astype(np.float64)))


def f32(*shape: Any) -> tuple[tuple[Any, ...], str]:
    return shape, "float32"


@needs_vulkan
@TARGETS
@pytest.mark.parametrize(
    ("normed", "copied", "e"), [(6, 2, 32), (3, 1, 48), (5, 5, 7), (3, 2, 256)]
)
def test_head_norm(normed: int, copied: int, e: int, target: dict) -> None:
    """The norm of some heads; others are copied, and columns after them are left out."""
    width, more = (normed + copied) * e, 5
    kernel = build(
        lambda x, w: norm.head_norm(x, w, e, width, EPS),
        f32("m", width + more),
        f32(normed * e),
        target=target,
    )
    for m in ROWS:
        x, w = normal(m, width + more) * 3, normal(normed * e)
        truth = x[:, :width].astype(np.float64)
        truth[:, : normed * e] = rms(by_heads(truth[:, : normed * e], e)).reshape(m, -1) * w
        check(kernel(x, w, out=[f32(m, width)])[0], truth)


@needs_vulkan
@pytest.mark.parametrize("heads", [Heads(2, 4, 16, 24), Heads(1, 1, 128, 64), Heads(3, 6, 17, 8)])
def test_unit_heads(heads: Heads) -> None:
    e, count = heads.key_dim, 2 * heads.keys
    kernel = build(lambda x: delta_rule.unit_heads(x, heads), f32("m", heads.width))
    for m in ROWS:
        x = normal(m, heads.width)
        parts = by_heads(x[:, : count * e], e)
        truth = parts / np.sqrt((parts**2).sum(-1, keepdims=True) + EPS)
        truth[:, : heads.keys] /= e**0.5
        check(kernel(x, out=[f32(m, count * e)])[0], truth.reshape(m, -1))


@needs_vulkan
@TARGETS
@pytest.mark.parametrize(("h", "e", "first"), [(4, 24, 70), (1, 48, 0), (3, 128, 1), (5, 130, 3)])
def test_gated_norm(h: int, e: int, first: int, target: dict) -> None:
    kernel = build(
        lambda o, x, w: delta_rule.gated_norm(o, x, w, first, EPS),
        f32("m", h * e),
        f32("m", first + h * e),
        f32(e),
        target=target,
    )
    for m in ROWS:
        o, x, w = normal(m, h * e) * 2, normal(m, first + h * e), normal(e)
        truth = (rms(by_heads(o, e)) * w).reshape(m, -1) * silu(x[:, first:])
        check(kernel(o, x, w, out=[f32(m, h * e)])[0], truth)


@needs_vulkan
@pytest.mark.parametrize("h", [1, 5, 16])
def test_gates(h: int) -> None:
    """Steps and decays, also of numbers whose exponential is infinite or zero."""
    kernel = build(delta_rule.gates, f32("m", 2 * h), f32(h), f32(h))
    for m in ROWS:
        x, rate, bias = normal(m, 2 * h) * 4, -np.exp2(normal(h)), normal(h, seed=8)
        x[0, 0], x[-1, -1] = 150, -150
        truth = 1 / (1 + np.exp(-x.astype(np.float64)))
        truth[:, h:] = np.exp2(rate * np.logaddexp(0, x[:, h:].astype(np.float64) + bias))
        actual = kernel(x, rate, bias, out=[f32(m, 2 * h)])[0]
        assert np.abs(actual - truth).max() < 2e-6


def a_norm_of_heads(x: te.Tensor, w: te.Tensor) -> te.Tensor:
    return norm.head_norm(x, w, 32, 8 * 32, EPS)


SHAPED: tuple[Any, Any] = (f32("m", 300), f32(6 * 32))


@TARGETS
def test_a_norm_of_heads_is_one_kernel(target: dict) -> None:
    func, rule = scheduled(written(a_norm_of_heads, *SHAPED, target=target), target=target)
    assert rule == "vulkan-rows"
    assert kernel_count(func, target) == 1


@needs_vulkan
@pytest.mark.parametrize("threads", rows.OFFERS["threads"])
def test_every_choice_is_right(threads: int) -> None:
    kernel: Callable = build(a_norm_of_heads, *SHAPED, choices=Written({"threads": threads}))
    x, w = normal(5, 300), normal(6 * 32)
    truth = x[:, :256].astype(np.float64)
    truth[:, :192] = rms(by_heads(truth[:, :192], 32)).reshape(5, -1) * w
    check(kernel(x, w, out=[f32(5, 256)])[0], truth)
