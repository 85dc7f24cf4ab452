"""Kernels of every kind on a GPU, small, with inputs, the result in numpy, and the least number of
candidates that their rule must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from arm_kernels import Kernel, normal
from attention_spaces import over_cache, over_picture
from vulkan_products import Product


@dataclass(frozen=True)
class Space:
    """A kernel whose candidates are checked, and the least number of them."""

    make: Callable[[Mapping[str, Any]], Kernel]
    """(TVM target) -> the kernel; called with the target in scope."""
    rule: str
    least: int
    matrices: bool = False
    """Whether it needs cooperative matrices."""


def attention(make: Callable[..., Kernel], *sizes: Any, **more: Any) -> Space:
    made = partial(make, *sizes, **more)
    return Space(lambda target: made(), "vulkan-attention", 200)


ATTENTION = {
    "vision": attention(over_picture, None, 77),
    "resampler": attention(over_picture, 10, 77),
    "prefill_f32": attention(over_cache, "float32", 39, 45, heads=6),
    "prefill_f16": attention(over_cache, "float16", 39, 45),
    "prefill_int8": attention(over_cache, "int8", 39, 0, heads=6, d=24),
    "decode_f32": attention(over_cache, "float32", 1, 350, heads=2),
    "decode_f16": attention(over_cache, "float16", 1, 350),
    "decode_int8": attention(over_cache, "int8", 1, 17, heads=16),
}
SPACES: dict[str, Space] = {f"attention_{name}": space for name, space in ATTENTION.items()}


def matmul(scheme: str, m: int | None, rule: str, matrices: bool = False) -> Space:
    """7 rows, or one, in the smallest tiles."""

    def make(target: Mapping[str, Any]) -> Kernel:
        product = Product(scheme, 64, 256, target)
        x, weight = normal(m or 7, product.k), normal(product.n, product.k)
        packed = product.storage.pack(weight)
        inputs: list[np.ndarray | int] = [*product.inputs(x), *packed.values()]
        return Kernel(product.function(m), inputs, [product.expected(x, weight)], 3e-6)

    return Space(make, rule, 100, matrices)


for scheme in ("f32", "f16", "w4"):
    SPACES[f"one_row_{scheme}"] = matmul(scheme, 1, "vulkan-matmul")
    SPACES[f"rows_{scheme}"] = matmul(scheme, None, "vulkan-matmul")
for scheme in ("w4a8", "w8a8"):
    SPACES[f"one_row_{scheme}"] = matmul(scheme, 1, "vulkan-dot")
    SPACES[f"rows_{scheme}"] = matmul(scheme, None, "vulkan-dot")
for scheme in ("f16", "w4a8"):
    SPACES[f"matrices_{scheme}"] = matmul(scheme, None, "vulkan-matrix", matrices=True)
