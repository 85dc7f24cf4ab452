"""Attention within windows of four rows, on a CPU and a GPU, against numpy."""

import numpy as np
import pytest
from attention_reference import normal
from test_ops import build

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import vulkan_operator
from tvm import te, tirx
from vulkan_running import needs_vulkan, shaders, tvm_target
from vulkan_targets import PORTABLE

from handglass.compiler.ops.window_attention import window_attention
from handglass.schedules import CPU_RULES
from handglass.schedules.rule import schedule_function
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

SHAPES = [(16, 72), (4, 6), (3, 8), (2, 5), (1, 16)]


def truth_of(qkv: np.ndarray, heads: int) -> np.ndarray:
    """(m, 4, 3 d) -> (m, 4, d) in float64."""
    m, rows, width = qkv.shape
    split = qkv.astype(np.float64).reshape(m, rows, 3, heads, width // 3 // heads)
    q, k, v = split.transpose(2, 0, 3, 1, 4)  # (m, heads, rows, head_dim) each
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return mixed.swapaxes(1, 2).reshape(m, rows, -1)


def close(actual: np.ndarray, truth: np.ndarray) -> None:
    assert np.abs(actual.reshape(truth.shape) - truth).max() < 2e-6 * np.abs(truth).max()


@pytest.mark.parametrize(("heads", "d"), SHAPES)
def test_window_attention(heads: int, d: int) -> None:
    kernel = build(lambda x: window_attention(x, heads), (["m", 4, 3 * heads * d], "float32"))
    for m in (1, 2, 7, 64):
        qkv = normal(m, 4, 3 * heads * d)
        close(kernel(qkv), truth_of(qkv, heads))


def test_huge_scores_and_nan() -> None:
    """One score exceeds the others by thousands; what is not a number stays in its window."""
    kernel = build(lambda x: window_attention(x, 2), (["m", 4, 48], "float32"))
    qkv = normal(5, 4, 48)
    qkv[1] *= 300
    qkv[3, 2, 28] = np.nan  # a key of the second head
    truth = truth_of(qkv, 2)
    out = kernel(qkv).reshape(truth.shape)
    assert np.isnan(out[3, :, 8:]).all() and np.isfinite(out[3, :, :8]).all()
    close(np.delete(out, 3, 0), np.delete(truth, 3, 0))


def test_products_are_vectors() -> None:
    """At full size: products have a column per lane, sums of lanes and softmax a head per lane."""
    x = te.placeholder((te.var("m", "int64"), 4, 3 * 1152), "float32", name="x")
    func = te.create_prim_func([x, window_attention(x, 16)])
    target = find_target("host")
    found = schedule_function(func, CPU_RULES, tvm_target({"kind": "llvm"}))
    assert found is not None and found[1].name == "cpu-rows" and found[1] in target.rules
    script = found[0].mod["main"].script()
    assert script.count("T.vectorized(8)") == 4 and script.count("T.vectorized(16)") == 4


def gpu_function(heads: int, d: int) -> tirx.PrimFunc:
    shape = ["m", 4, 3 * heads * d]
    return vulkan_operator.written(lambda x: window_attention(x, heads), (shape, "float32"))


def test_gpu_schedule() -> None:
    """Two valid shaders: scores, and products with the softmax that they need."""
    func, rule = vulkan_operator.scheduled(gpu_function(16, 72))
    assert rule == "vulkan-elementwise" and len(shaders(func, PORTABLE)) == 2


@needs_vulkan
@pytest.mark.parametrize(("heads", "d"), SHAPES[:3])
def test_on_a_gpu(heads: int, d: int) -> None:
    func, _ = vulkan_operator.scheduled(gpu_function(heads, d))
    qkv = normal(7, 4, 3 * heads * d)
    lanes = np.gcd(d, 16)
    out = np.zeros((7, 4, heads, d // lanes, lanes), np.float32)
    close(vulkan_operator.runnable(func)(qkv, out)[1], truth_of(qkv, heads))
