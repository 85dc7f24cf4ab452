"""One row times 4-bit weights on tensor cores: results on the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import Kernels, image, kernels_of, scheduled, target_of
from emulator.launch import Module
from tolerance import KERNEL
from vulkan_products import Product

from handglass.schedules.choices import Written
from handglass.schedules.cuda import one_row
from handglass.schedules.gpu import padded_row
from handglass.targets import find_target

pytestmark = pytest.mark.compiler

SIZES = ((37, 90), (16, 32), (250, 1500))
"""(outputs, inputs): parts of a panel, of a workgroup and of a group; fewer groups than warps."""
N, K = 140, 330
LARGEST = 65504 + 65504 / 2048
"""What a larger finite number of the row becomes."""


Chosen = tuple[tuple[str, int], ...]
WAYS: Sequence[Chosen] = (
    (("parts", 2),),
    (("parts", padded_row.PARTS[-1]),),
    (("parts", 4), ("unroll", 4)),
    (("parts", 4), ("ahead", 1), ("adjacent", 1)),
    (("parts", 1), ("unroll", 2), ("ahead", 1), ("streamed", 1)),
    (("parts", 8), ("unroll", 2), ("adjacent", 1)),
)


@cache
def built(n: int, k: int, chosen: Chosen = (), bias: bool = False) -> tuple[Product, Kernels]:
    product, target = Product("w4", n, k, dict(find_target("cuda").tvm)), target_of("cuda")
    sch, rule = scheduled(product.function(1, bias), target, Written(dict(chosen)))
    assert rule == one_row.RULE.name
    return product, kernels_of(sch.mod["main"], target)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def packed(product: Product) -> list[np.ndarray]:
    parts = product.storage.pack(random(product.n, product.k)).values()
    return [np.ascontiguousarray(part) for part in parts]


def run(product: Product, kernels: Kernels, x: np.ndarray) -> np.ndarray:
    y = np.full((1, product.n), np.nan, np.float32)
    kernels.run(x, *packed(product), y)
    return y


def truth(product: Product, x: np.ndarray) -> np.ndarray:
    return product.expected(x, random(product.n, product.k))


@pytest.mark.cuda
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_sizes(n: int, k: int) -> None:
    product, kernels = built(n, k)
    x = random(1, k)
    KERNEL.check(run(product, kernels, x), truth(product, x))


@pytest.mark.cuda
@pytest.mark.parametrize("chosen", WAYS)
def test_ways_to_read_the_weights(chosen: Chosen) -> None:
    product, kernels = built(N, K, chosen)
    x = random(1, K)
    KERNEL.check(run(product, kernels, x), truth(product, x))


@pytest.mark.cuda
def test_bias_activation_and_residual() -> None:
    product, kernels = built(N, K, bias=True)
    x, bias, residual = random(1, K) / 64, random(N), random(1, N)
    y = np.full((1, N), np.nan, np.float32)
    kernels.run(x, *packed(product), bias, residual, y)
    KERNEL.check(y, np.tanh(truth(product, x) + bias) + residual)


@pytest.mark.cuda
def test_before_compute_capability_8_a_product_takes_two_instructions() -> None:
    product, kernels = built(N, K)
    older = Module(image(kernels.source, "compute_75", 13)[0].decode().rstrip("\0"))
    x, y = random(1, K), np.full((1, N), np.nan, np.float32)
    (launch,) = kernels.launches
    block = [int(launch.extents[f"threadIdx.{axis}"]) for axis in "xy"]
    known = dict(zip(kernels.buffers, (x, *packed(product), y), strict=True))
    given = [known[argument.args[0].name] for argument in launch.arguments]
    counts = older.launch(launch.kernel, [-(-N // padded_row.COLUMNS), 1, 1], [*block, 1], *given)
    assert counts.mma == 2 * 16 * -(-K // 32) * -(-N // padded_row.COLUMNS)
    KERNEL.check(y, truth(product, x))


@pytest.mark.cuda
def test_of_numbers_beyond_float16() -> None:
    """A row keeps its precision where float16 has none, is bounded, and is not finite if it was
    not."""
    product, kernels = built(N, K)
    small = random(1, K) * np.float32(2e-5)
    KERNEL.check(run(product, kernels, small), truth(product, small))
    large = random(1, K)
    large[0, [3, 200]] = 7e4, -3e38
    bounded = np.clip(large, -LARGEST, LARGEST)
    KERNEL.check(run(product, kernels, large), truth(product, bounded))
    for value in (np.nan, np.inf, -np.inf):
        large[0, 3] = value
        assert not np.isfinite(run(product, kernels, large)).any()


def test_many_rows_and_older_chips_take_other_kernels() -> None:
    for m, preset in ((None, "cuda"), (1, "vulkan")):
        product = Product("w4", 32, 64, dict(find_target(preset).tvm))
        assert "int4" not in product.function(m).script()
