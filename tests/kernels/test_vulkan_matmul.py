"""Matmuls on vulkan:0: every scheme, any number of rows, odd sizes, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from tvm import tirx
from vulkan_operator import Kernel
from vulkan_products import ROWS, Product
from vulkan_running import kernel_count, needs_vulkan, runnable, shaders
from vulkan_targets import BARE, DOT, PORTABLE

from handglass.compiler.schemes.quantize import SCHEMES

pytestmark = pytest.mark.compiler

RNG = np.random.default_rng(5)
SDOT = 4450
"""OpSDot"""
SIZES = [(37, 333), (128, 192)]
INTEGERS = [name for name, scheme in SCHEMES.items() if scheme.codes is not None]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def check(actual: np.ndarray, truth: np.ndarray, tolerance: float = 2e-6) -> None:
    assert actual.shape == truth.shape
    assert np.abs(actual - truth).max() <= tolerance * np.abs(truth).max()


def multiplied(
    product: Product, func: tirx.PrimFunc, x: np.ndarray, weight: np.ndarray, *more: np.ndarray
) -> np.ndarray:
    return called(product, runnable(func, product.target), x, weight, *more)


def called(
    product: Product, kernel: Kernel, x: np.ndarray, weight: np.ndarray, *more: np.ndarray
) -> np.ndarray:
    parts = map(np.ascontiguousarray, product.storage.pack(weight).values())
    y = np.full((len(x), product.n), np.nan, np.float32)
    return kernel(*product.inputs(x), *parts, *more, y)[-1]


@needs_vulkan
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_product(scheme: str, n: int, k: int) -> None:
    product = Product(scheme, n, k, PORTABLE)
    weight = normal(n, k)
    one, many = (runnable(product.scheduled(product.function(m)), PORTABLE) for m in (1, None))
    for m in ROWS:
        x = normal(m, k)
        check(called(product, one if m == 1 else many, x, weight), product.expected(x, weight))


@needs_vulkan
@pytest.mark.parametrize("scheme", ["f32", "w8a8"])
@pytest.mark.parametrize("m", [1, 7])
def test_the_portable_profile_and_less(scheme: str, m: int) -> None:
    """32-bit words suffice: the target has no 16-bit or 8-bit buffers and no dot product."""
    product = Product(scheme, 48, 96, BARE)
    x, weight = normal(m, 96), normal(48, 96)
    func = product.scheduled(product.function(m))
    check(multiplied(product, func, x, weight), product.expected(x, weight))


@needs_vulkan
@pytest.mark.parametrize("scheme", INTEGERS)
@pytest.mark.parametrize("m", [1, 7])
def test_dot_products_of_the_device(scheme: str, m: int) -> None:
    """With the instruction if the target has it; integer sums are the same without it."""
    x, weight = normal(m, 96), normal(48, 96)
    both = []
    for target in (PORTABLE, DOT):
        product = Product(scheme, 48, 96, target)
        func = product.scheduled(product.function(m))
        words = [int(word) & 0xFFFF for shader in shaders(func, target) for word in shader.words]
        assert (SDOT in words) == (target is DOT)
        both.append(multiplied(product, func, x, weight))
    assert np.array_equal(both[0], both[1])


@needs_vulkan
@pytest.mark.parametrize("scheme", ["f32", "f16", "w4a8", "w8a8"])
@pytest.mark.parametrize("m", [1, 7])
@pytest.mark.parametrize("n", [37, 64])
def test_bias_activation_and_residual_are_part_of_the_kernel(scheme: str, m: int, n: int) -> None:
    product = Product(scheme, n, 96, PORTABLE)
    x, weight = normal(m, 96), normal(n, 96)
    bias, residual = normal(n), normal(m, n)
    func = product.scheduled(product.function(None if m > 1 else 1, bias=True))
    assert kernel_count(func, PORTABLE) == 1
    y = multiplied(product, func, x, weight, bias, residual)
    check(y, np.tanh(product.expected(x, weight) + bias) + residual)


@needs_vulkan
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("m", [1, 5])
def test_what_is_not_a_number_reaches_its_row_and_no_other(scheme: str, m: int) -> None:
    product = Product(scheme, 37, 64, PORTABLE)
    x, weight = normal(m, 64), normal(37, 64)
    x[0, 13] = np.nan
    func = product.scheduled(product.function(1 if m == 1 else None))
    y = multiplied(product, func, x, weight)
    assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()


@needs_vulkan
def test_large_activations_do_not_become_infinite_in_float16() -> None:
    product = Product("f16", 16, 32, PORTABLE)
    x, weight = normal(5, 32), normal(16, 32)
    x[2] *= 1e6
    x[3, 0] = np.inf
    y = multiplied(product, product.scheduled(product.function()), x, weight)
    x[2] = np.clip(x[2], -65504, 65504)
    finite = [0, 1, 2, 4]
    check(y[finite], product.expected(x[finite], weight))
    assert not np.isfinite(y[3]).any()
