"""Norms and quantized rows on a GPU, each in one kernel, against a few lines of numpy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from tvm import te
from vulkan_operator import build, check, normal, scheduled, written
from vulkan_running import kernel_count, needs_vulkan

from handglass.compiler.ops import exponential, norm
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.schedules.choices import Written
from handglass.schedules.gpu import rows
from handglass.schedules.isa.integer_isa import Codes

pytestmark = pytest.mark.compiler

WIDTHS = (7, 48, 90, 288, 1152)
GROUPED, WHOLE = Codes(bits=4, zero=8), Codes(bits=8, zero=128)
WORDS, WHOLE_WORDS = (Codes(bits, 0, activation="int32") for bits in (4, 8))
CODES = pytest.mark.parametrize(
    "codes",
    [GROUPED, WHOLE, WORDS, WHOLE_WORDS],
    ids=["groups", "row", "words-groups", "words-row"],
)


def f32(*shape: int | str) -> tuple[Sequence[int | str], str]:
    return shape, "float32"


def rms(x: np.ndarray, w: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    exact = x.astype(np.float64)
    return exact / np.sqrt((exact**2).mean(-1, keepdims=True) + eps) * w


@needs_vulkan
@pytest.mark.parametrize("d", WIDTHS)
def test_rms_norm(d: int) -> None:
    kernel = build(lambda x, w: norm.rms_norm(x, w, 1e-5), f32("m", d), f32(d))
    for m in (1, 7, 64, 333):
        x, w = normal(m, d) * 3, normal(d)
        check(kernel(x, w, out=[f32(m, d)])[0], rms(x, w))


@needs_vulkan
@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("offset", [0, 300])
def test_layer_norm(d: int, offset: float) -> None:
    """A mean far from zero must not cancel the variance."""
    kernel = build(lambda x, w, b: norm.layer_norm(x, w, b, 1e-6), f32("m", d), f32(d), f32(d))
    for m in (1, 5):
        x, w, b = normal(m, d) + np.float32(offset), normal(d), normal(d, seed=8)
        centred = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
        truth = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * w + b
        check(kernel(x, w, b, out=[f32(m, d)])[0], truth, 2e-6 if offset == 0 else 3e-4)


def groups_of(x: np.ndarray, codes: Codes) -> np.ndarray:
    """x (m, k), zero-padded to whole groups -> (m, groups, size)."""
    size = 32 if codes.bits == 4 else x.shape[1] + -x.shape[1] % 4
    return np.pad(x, [(0, 0), (0, -x.shape[1] % size)]).reshape(len(x), -1, size)


def check_quantised(x: np.ndarray, codes: Codes, results: list[np.ndarray]) -> None:
    """Check that codes are within one unit of x / scale, and that scales and offsets match."""
    truth = groups_of(x, codes)
    peak = np.abs(truth).max(-1)
    stored = results[0].view(np.int8).reshape(truth.shape).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = np.where(peak[..., None] > 0, truth * 127 / peak[..., None], 0)
    assert np.abs(stored - exact).max() <= 0.5 + 1e-4
    check(results[1].reshape(peak.shape), peak / 127)
    if codes.zero:
        assert (results[2].reshape(peak.shape) == stored.sum(-1) * -codes.zero).all()


def quantising(codes: Codes, k: int, compute: Callable, *arguments: Any) -> Callable:
    """(inputs) -> codes, scales and offsets of the k columns that `compute` returns."""
    size = 32 if codes.bits == 4 else 4
    depth = -(-k // size) * size
    groups = depth // 32 if codes.bits == 4 else 1
    kernel = build(lambda *x: quantize_rows(compute(*x), codes, depth), *arguments)

    def call(m: int, *inputs: np.ndarray) -> list[np.ndarray]:
        stored = ((m, depth // 4), "int32") if codes.words else ((m, depth), "int8")
        offsets = [((m, groups), "int32")] if codes.zero else []
        return kernel(*inputs, out=[stored, ((m, groups), "float32"), *offsets])

    return call


@needs_vulkan
@CODES
@pytest.mark.parametrize("k", [32, 90, 416, 1152])
def test_quantised_rows(codes: Codes, k: int) -> None:
    kernel = quantising(codes, k, lambda x: x, f32("m", k))
    for m in (1, 7, 64):
        x = normal(m, k)
        x[0, : min(k, 64)] = 0  # a group of zeros
        check_quantised(x, codes, kernel(m, x))


@needs_vulkan
@CODES
@pytest.mark.parametrize("d", [64, 416])
def test_norm_and_quantise_in_one_kernel(codes: Codes, d: int) -> None:
    kernel = quantising(codes, d, lambda x, w: norm.rms_norm(x, w, 1e-5), f32("m", d), f32(d))
    for m in (1, 33):
        x, w = normal(m, d) * 2, normal(d)
        check_quantised(rms(x, w), codes, kernel(m, x, w))


@needs_vulkan
@CODES
def test_gate_and_quantise_in_one_kernel(codes: Codes) -> None:
    f = 352
    kernel = quantising(codes, f, exponential.silu_gate, f32("m", 2 * f))
    for m in (1, 7):
        x = normal(m, 2 * f) * 2
        gate, up = x[:, :f].astype(np.float64), x[:, f:]
        check_quantised(gate / (1 + np.exp(-gate)) * up, codes, kernel(m, x))


@needs_vulkan
def test_a_row_that_is_no_number_spoils_only_itself() -> None:
    kernel = quantising(GROUPED, 64, lambda x: x, f32("m", 64))
    x = normal(9, 64)
    x[4, 40] = np.nan
    results = kernel(9, x)
    assert np.isnan(results[1][4, 1]) and np.isfinite(results[1][4, 0])
    rest = [i for i in range(9) if i != 4]
    check_quantised(x[rest], GROUPED, [r[rest] for r in results])


def norm_and_quantise(x: te.Tensor, w: te.Tensor) -> list[te.Tensor]:
    return quantize_rows(norm.rms_norm(x, w, 1e-5), WORDS, 416)


def test_a_row_is_one_kernel() -> None:
    func, rule = scheduled(written(norm_and_quantise, f32("m", 416), f32(416)))
    assert rule == "vulkan-rows"
    assert kernel_count(func) == 1


@needs_vulkan
@pytest.mark.parametrize("threads", rows.OFFERS["threads"])
def test_every_choice_is_right(threads: int) -> None:
    chosen = Written({"threads": threads})
    kernel = build(norm_and_quantise, f32("m", 416), f32(416), choices=chosen)
    x, w = normal(5, 416), normal(416)
    out = [((5, 104), "int32"), f32(5, 13)]
    check_quantised(rms(x, w), WORDS, kernel(x, w, out=out))
