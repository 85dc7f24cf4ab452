"""Matmuls on vulkan:0: every scheme, any number of rows, sizes that divide nothing, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from vulkan_products import ROWS, Product
from vulkan_running import needs_vulkan, run, shaders
from vulkan_targets import BARE, DOT, PORTABLE

from handglass.compiler.quantize import SCHEMES

pytestmark = pytest.mark.compiler

RNG = np.random.default_rng(5)
SIZES = [(37, 50), (16, 32), (80, 333), (128, 192)]
TARGETS = {"portable": PORTABLE, "bare": BARE, "dot": DOT}


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def check(actual: np.ndarray, truth: np.ndarray, tolerance: float = 2e-6) -> None:
    assert actual.shape == truth.shape
    assert np.abs(actual - truth).max() <= tolerance * np.abs(truth).max()


def multiplied(product: Product, func, x: np.ndarray, weight: np.ndarray, *more) -> np.ndarray:
    parts = map(np.ascontiguousarray, product.storage.pack(weight).values())
    y = np.full((len(x), product.n), np.nan, np.float32)
    return run(func, *product.inputs(x), *parts, *more, y, target=product.target)[-1]


@needs_vulkan
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_product(scheme: str, n: int, k: int) -> None:
    product = Product(scheme, n, k, PORTABLE)
    weight = normal(n, k)
    many = product.scheduled(product.function())
    for m in ROWS:
        func = product.scheduled(product.function(1)) if m == 1 else many
        x = normal(m, k)
        check(multiplied(product, func, x, weight), product.expected(x, weight))
