"""Gathers, activations, copies and the cache writers on a GPU, against numpy."""

import numpy as np
import pytest
import torch

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm_ffi
from tvm import te, tirx
from vulkan_operator import build, check, normal, runnable, scheduled, written
from vulkan_running import kernel_count, needs_vulkan

from handglass.compiler.ops import cache, exponential, gpu_quantized_cache, rotary
from handglass.compiler.ops.attention import key_panels
from handglass.compiler.ops.layout import Layout
from handglass.schedules.choices import Written
from handglass.schedules.gpu import elementwise

pytestmark = pytest.mark.compiler
CONTEXT = 64


@needs_vulkan
@pytest.mark.parametrize("n", [1, 7, 64, 333])
def test_gelu(n: int) -> None:
    kernel = build(exponential.gelu_tanh, (["n", 10], "float32"))
    x = normal(n, 10) * 3
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)
    actual = kernel(x, out=[((n, 10), "float32")])[0]
    assert (np.abs(actual - x / 2 * (1 + np.tanh(u))) <= 1e-6 * np.maximum(np.abs(x), 1)).all()


@needs_vulkan
def test_exact_gelu() -> None:
    x = np.linspace(-6, 6, 990, dtype=np.float32).reshape(99, 10)
    truth = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    actual = build(exponential.gelu, (["n", 10], "float32"))(x, out=[((99, 10), "float32")])[0]
    assert (np.abs(actual - truth) <= 1e-6 * np.maximum(np.abs(x), 1)).all()


@needs_vulkan
def test_silu_gate() -> None:
    x = normal(5, 26) * 4
    gate, up = x[:, :13].astype(np.float64), x[:, 13:]
    kernel = build(exponential.silu_gate, (["m", 26], "float32"))
    check(kernel(x, out=[((5, 13), "float32")])[0], gate / (1 + np.exp(-gate)) * up)


@needs_vulkan
def test_a_chain_is_one_kernel() -> None:
    def chain(x: te.Tensor, y: te.Tensor) -> te.Tensor:
        twice = te.compute(x.shape, lambda i, j: x[i, j] * 2.0, name="twice")
        return te.compute(x.shape, lambda i, j: twice[i, j] + y[j], name="sum")

    func, rule = scheduled(written(chain, (["n", 9], "float32"), ([9], "float32")))
    assert rule == "vulkan-elementwise" and kernel_count(func) == 1
    x, y = normal(11, 9), normal(9)
    check(runnable(func)(x, y, np.zeros_like(x))[2], x * 2 + y)


@needs_vulkan
def test_gather() -> None:
    kernel = build(
        lambda table, ids: te.compute(
            (ids.shape[0], 6), lambda i, j: table[ids[i], j], name="rows"
        ),
        ([20, 6], "float32"),
        (["n"], "int32"),
    )
    table, ids = normal(20, 6), np.array([19, 0, 7, 7], np.int32)
    assert (kernel(table, ids, out=[((4, 6), "float32")])[0] == table[ids]).all()


@needs_vulkan
def test_one_number_and_a_sum() -> None:
    """A function without loops, and one with reduction loops only."""
    one = build(lambda x: te.compute((), lambda: x[0] + 1.0, name="one"), ([1], "float32"))
    assert one(np.array([2], np.float32), out=[((), "float32")])[0] == 3
    k = te.reduce_axis((0, 30), "k")
    total = build(
        lambda x: te.compute((), lambda: te.sum(x[k], axis=k), name="total"), ([30], "float32")
    )
    x = normal(30)
    check(total(x, out=[((), "float32")])[0], np.array(x.sum(dtype=np.float64)))


@needs_vulkan
def test_sum_along_the_last_axis() -> None:
    def total(x: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, 30), "k")
        return te.compute((x.shape[0],), lambda i: te.sum(x[i, k], axis=k), name="total")

    x = normal(77, 30)
    kernel = build(total, (["n", 30], "float32"))
    check(kernel(x, out=[((77,), "float32")])[0], x.sum(-1, dtype=np.float64))


@needs_vulkan
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_casts(dtype: str) -> None:
    kernel = build(
        lambda x: te.compute(x.shape, lambda i: x[i].astype(dtype), name="cast"), (["n"], "float32")
    )
    x = normal(100)
    assert (kernel(x, out=[((100,), dtype)])[0] == x.astype(dtype)).all()


@needs_vulkan
@pytest.mark.parametrize("n", [1, 16, 33])
def test_packed_keys(n: int) -> None:
    x = normal(n, 3, 6)
    padded = x[np.minimum(np.arange(-(-n // 16) * 16), n - 1)]
    panels = padded.reshape(-1, 16, 3, 6).transpose(2, 0, 3, 1)
    shaped = (["n", 3, 6], "float32")
    keys = build(key_panels, shaped)(x, out=[(panels.shape, "float32")])[0]
    assert (keys == panels).all()


# --- the cache writers ---

LAYOUT = Layout(2, 3, 8)


def rotated(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Rotate x (s, h, d) by the rows of the table (s, d), with complex numbers."""
    half = x.shape[2] // 2
    turn = table[:, None, :half] + 1j * table[:, None, half:]
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)


def as_panels(x: np.ndarray, pos: int, dtype: str) -> np.ndarray:
    """x (s, h, d) written at `pos` to a cache of zeros -> (h, context / 16, d, 16)."""
    full = np.zeros((CONTEXT, *x.shape[1:]), dtype)
    full[pos : pos + len(x)] = x
    return full.reshape(-1, 16, *x.shape[1:]).transpose(2, 0, 3, 1)


@needs_vulkan
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_append(dtype: str) -> None:
    s, pos = 21, 13
    table, qkv = rotary.table(CONTEXT, 8, 10000.0), normal(s, LAYOUT.width)
    k, v = (part.reshape(s, 3, 8) for part in np.split(qkv[:, 16:], 2, axis=1))
    keys = runnable(scheduled(cache._key_writer(LAYOUT, CONTEXT // 16, CONTEXT, dtype))[0])
    truth = as_panels(rotated(k, table[pos : pos + s]), pos, "float64")
    actual = keys(np.zeros(truth.shape, dtype), qkv, table, pos)[0]
    assert np.abs(actual - truth).max() < (1e-6 if dtype == "float32" else 2e-3)
    values = runnable(scheduled(cache._value_writer(LAYOUT, CONTEXT, dtype))[0])
    actual = values(np.zeros((3, CONTEXT, 8), dtype), qkv, pos)[0]
    assert (actual[:, pos : pos + s] == v.astype(dtype).swapaxes(0, 1)).all()
    assert not actual[:, :pos].any() and not actual[:, pos + s :].any()


@needs_vulkan
def test_append_codes() -> None:
    """Each position and head has a scale; a position of zeros has zero codes."""
    s, pos, blocks = 21, 13, CONTEXT // 16
    table, qkv = rotary.table(CONTEXT, 8, 10000.0), normal(s, LAYOUT.width)
    qkv[5] = 0
    k, v = (part.reshape(s, 3, 8) for part in np.split(qkv[:, 16:], 2, axis=1))
    scale_shape = (3, blocks, 16)
    func, rule = scheduled(gpu_quantized_cache.key_writer(LAYOUT, blocks, CONTEXT))
    assert rule == "vulkan-rows" and kernel_count(func) == 1
    empty = np.zeros((3, blocks, 8, 16), np.int8), np.zeros(scale_shape, np.float32)
    codes, scales, *_ = runnable(func)(*empty, qkv, table, pos)
    check_codes(codes, scales, as_panels(rotated(k, table[pos : pos + s]), pos, "float64"), 2)
    func, _ = scheduled(gpu_quantized_cache.value_writer(LAYOUT, blocks))
    empty = np.zeros((3, CONTEXT, 8), np.int8), np.zeros(scale_shape, np.float32)
    codes, scales, *_ = runnable(func)(*empty, qkv, pos)
    truth = as_panels(v, pos, "float64").transpose(0, 1, 3, 2)
    check_codes(codes.reshape(truth.shape), scales, truth, 3)


def check_codes(codes: np.ndarray, scales: np.ndarray, truth: np.ndarray, axis: int) -> None:
    check(scales, np.abs(truth).max(axis) / 127)
    value = codes * np.expand_dims(scales.astype(np.float64), axis)
    assert (np.abs(value - truth) <= np.expand_dims(scales, axis) * 0.501 + 1e-12).all()


# --- choices ---


@needs_vulkan
@pytest.mark.parametrize("threads", elementwise.OFFERS["threads.0"])
def test_every_choice_is_right(threads: int) -> None:
    kernel = build(
        exponential.silu_gate, (["m", 26], "float32"), choices=Written({"threads.0": threads})
    )
    x = normal(50, 26)
    gate, up = x[:, :13].astype(np.float64), x[:, 13:]
    check(kernel(x, out=[((50, 13), "float32")])[0], gate / (1 + np.exp(-gate)) * up)


def test_a_workgroup_keeps_to_what_the_target_allows() -> None:
    small = {"kind": "vulkan", "max_threads_per_block": 64, "max_num_threads": 64}
    func, _ = scheduled(written(exponential.gelu_tanh, (["n", 10], "float32")), target=small)
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(func.body, (tirx.For, loops.append))
    bound = [loop for loop in loops if loop.thread_binding is not None]
    threads = [loop for loop in bound if loop.thread_binding.thread_tag == "threadIdx.x"]
    assert [int(loop.extent) for loop in threads] == [64]
