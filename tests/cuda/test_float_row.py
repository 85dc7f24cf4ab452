"""One row times float weights: results on the emulator, for odd sizes and other choices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import Kernels, kernels_of, scheduled, target_of
from tolerance import KERNEL
from vulkan_products import Product

from handglass.schedules.choices import Written
from handglass.schedules.cuda import float_row
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

Chosen = tuple[tuple[str, int], ...]
SIZES = (("f16", 37, 90), ("f16", 250, 2000), ("bf16", 37, 90), ("f32", 16, 34))
"""(scheme, outputs, inputs): parts of a panel and of a group; fewer groups than warps."""
N, K = 140, 331
WAYS: Sequence[tuple[str, Chosen]] = (
    ("f16", (("parts", 2), ("unroll", 4), ("ahead", 1), ("panels", 8))),
    ("f16", (("parts", 32), ("adjacent", 1), ("panels", 4))),
    ("f32", (("parts", 1), ("unroll", 2), ("ahead", 1), ("streamed", 1), ("panels", 4))),
    ("f32", (("parts", 8), ("unroll", 2), ("adjacent", 1), ("panels", 8))),
    ("bf16", (("parts", 4), ("unroll", 2), ("streamed", 1))),
)


@cache
def built(
    scheme: str, n: int, k: int, chosen: Chosen = (), bias: bool = False
) -> tuple[Product, Kernels]:
    product, target = Product(scheme, n, k, dict(find_target("cuda").tvm)), target_of("cuda")
    sch, rule = scheduled(product.function(1, bias), target, Written(dict(chosen)))
    assert rule == float_row.RULE.name
    return product, kernels_of(sch.mod["main"], target)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def packed(product: Product, weight: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(part) for part in product.storage.pack(weight).values()]


def check(product: Product, kernels: Kernels, bias: bool = False) -> None:
    x, weight = random(1, product.k), random(product.n, product.k)
    added, residual = random(product.n), random(1, product.n)
    truth, y = product.expected(x, weight), np.full((1, product.n), np.nan, np.float32)
    kernels.run(x, *packed(product, weight), *([added, residual] if bias else []), y)
    KERNEL.check(y, np.tanh(truth + added) + residual if bias else truth)


@pytest.mark.parametrize(("scheme", "n", "k"), SIZES)
def test_sizes_with_bias_activation_and_residual(scheme: str, n: int, k: int) -> None:
    check(*built(scheme, n, k, bias=True), bias=True)


@pytest.mark.parametrize(("scheme", "chosen"), WAYS)
def test_ways_to_read_the_weights(scheme: str, chosen: Chosen) -> None:
    check(*built(scheme, N, K, chosen))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_spoils_its_output_alone(bad: float) -> None:
    """Also the last input, which stands in for those beyond."""
    product, kernels = built("bf16", 37, 90, bias=True)
    weight, y = random(37, 90), np.full((1, 37), np.nan, np.float32)
    weight[5, 89] = bad
    kernels.run(random(1, 90), *packed(product, weight), random(37), random(1, 37), y)
    assert np.isfinite(np.delete(y, 5)).all()
