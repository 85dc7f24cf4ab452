"""Kernels of every kind on a GPU, small, with inputs, the result in numpy, and the least number of
candidates that their rule must offer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import attention_spaces
import numpy as np
from arm_kernels import Kernel, normal
from delta_reference import delta_truth, random_given
from tvm import te, tirx
from tvm.s_tir import Schedule
from vulkan_products import Product, quantized

from handglass.compiler.ops import exponential, gpu_delta_rule, norm
from handglass.compiler.ops.delta_rule import Heads
from handglass.compiler.ops.quantize_rows import quantize_rows
from handglass.schedules.choices import Defaults
from handglass.schedules.isa.integer_isa import Codes


class Offered(Defaults):
    """Picks the defaults and keeps all options."""

    def __init__(self) -> None:
        self.options: dict[str, Sequence[int]] = {}
        self.defaults: dict[str, int] = {}

    def pick(self, sch: Schedule, name: str, options: Sequence[int], default: int) -> int:
        assert list(options) == sorted(set(options)), name
        self.options[name] = tuple(options)
        self.defaults[name] = super().pick(sch, name, options, default)
        return self.defaults[name]

    @property
    def size(self) -> int:
        """Number of candidates."""
        return math.prod(map(len, self.options.values()))


@dataclass(frozen=True)
class Space:
    """A kernel whose candidates are checked, and the least number of them."""

    make: Callable[[Mapping[str, Any]], Kernel]
    """(TVM target) -> the kernel; called with the target in scope."""
    rule: str
    least: int
    matrices: bool = False
    """Whether it needs cooperative matrices."""


def attention(make: Callable[[], Kernel]) -> Space:
    return Space(lambda target: make(), "vulkan-attention", 200)


SPACES: dict[str, Space] = {
    f"attention_{name}": attention(make) for name, make in attention_spaces.SPACES.items()
}


def matmul(
    scheme: str,
    m: int | None,
    rule: str,
    matrices: bool = False,
    sizes: tuple[int, int] = (64, 256),
) -> Space:
    """7 rows, or one, in the smallest tiles. `sizes`: outputs and inputs."""

    def make(target: Mapping[str, Any]) -> Kernel:
        product = Product(scheme, *sizes, target)
        x, weight = normal(m or 7, product.k), normal(product.n, product.k)
        packed = product.storage.pack(weight)
        inputs: list[np.ndarray | int] = [*product.inputs(x), *packed.values()]
        return Kernel(product.function(m), inputs, [product.expected(x, weight)], 3e-6)

    return Space(make, rule, 100, matrices)


for scheme in ("f32", "w4"):
    SPACES[f"one_row_{scheme}"] = matmul(scheme, 1, "vulkan-matmul")
    SPACES[f"rows_{scheme}"] = matmul(scheme, None, "vulkan-matmul")
for scheme in ("w4a8", "w8a8"):
    SPACES[f"one_row_{scheme}"] = matmul(scheme, 1, "vulkan-dot")
    SPACES[f"rows_{scheme}"] = matmul(scheme, None, "vulkan-dot")
for scheme, rule in (("f32", "vulkan-matmul"), ("w4a8", "vulkan-dot"), ("w8a8", "vulkan-dot")):
    # An odd number of panels and 72 groups of inputs; 36 groups.
    SPACES[f"one_row_{scheme}_odd"] = matmul(scheme, 1, rule, sizes=(48, 2304))
    SPACES[f"one_row_{scheme}_36"] = matmul(scheme, 1, rule, sizes=(64, 1152))
SPACES["matrices_f16"] = matmul("f16", None, "vulkan-matrix", matrices=True)


D = 1152
X = normal(7, D)


def row(compute: Callable[..., Any], inputs: Sequence[np.ndarray], truth: Any, rule: str) -> Space:
    """A kernel over the rows of the first input; the number of rows is symbolic."""

    def make(target: Mapping[str, Any]) -> Kernel:
        shapes = [(tirx.Var("m", "int64"), *inputs[0].shape[1:]), *(x.shape for x in inputs[1:])]
        tensors = [te.placeholder(shape, "float32", f"x{n}") for n, shape in enumerate(shapes)]
        computed = compute(*tensors)
        results = computed if isinstance(computed, list) else [computed]
        outputs = list(truth) if isinstance(truth, tuple) else [truth]
        return Kernel(te.create_prim_func([*tensors, *results]), [*inputs], outputs, 3e-6)

    return Space(make, rule, 20)


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(-1, keepdims=True)


def scaled(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-5)


def gated(x: np.ndarray) -> np.ndarray:
    gate, up = np.split(x.astype(np.float64), 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up


def gelu(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))


def words(bits: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    codes, scale = quantized(X, D, groups)
    unit = np.float32(Codes(bits, 0, activation="int32").magnify)
    return codes.view("<i4").reshape(len(X), -1), scale / unit


W, B = normal(D), normal(D)
SPACES |= {
    "rms_norm": row(lambda x, w: norm.rms_norm(x, w, 1e-5), [X, W], scaled(X) * W, "vulkan-rows"),
    "layer_norm": row(
        lambda x, w, b: norm.layer_norm(x, w, b, 1e-5),
        [X, W, B],
        scaled(centred(X)) * W + B,
        "vulkan-rows",
    ),
    "head_norm": row(
        lambda x, w: norm.head_norm(x, w, 32, D, 1e-5),
        [X, W],
        scaled(X.reshape(7, -1, 32)).reshape(7, D) * W,
        "vulkan-rows",
    ),
    "quantize_groups": row(
        lambda x: quantize_rows(x, Codes(4, 0, activation="int32"), D),
        [X],
        words(4, D // 32),
        "vulkan-rows",
    ),
    "quantize_row": row(
        lambda x: quantize_rows(x, Codes(8, 0, activation="int32"), D),
        [X],
        words(8, 1),
        "vulkan-rows",
    ),
    "silu_gate": row(exponential.silu_gate, [X], gated(X), "vulkan-elementwise"),
    "gelu": row(exponential.gelu_tanh, [X], gelu(X), "vulkan-elementwise"),
}


def delta_rule(heads: Heads, positions: int) -> Space:
    """One position has a kernel of its own. The state, which is updated in place, is compared in
    test_vulkan_recurrence.py."""
    given = random_given(heads, positions)
    truth = delta_truth(given)[1].reshape(positions, -1)

    def make(target: Mapping[str, Any]) -> Kernel:
        written = gpu_delta_rule.delta_step if positions == 1 else gpu_delta_rule.delta_writer
        return Kernel(written(heads), [*given.arguments()], [truth], 1e-5)

    return Space(make, "vulkan-recurrence", 20)


SPACES["delta_rule"] = delta_rule(Heads(1, 2, 128, 128), 37)
SPACES["delta_step"] = delta_rule(Heads(1, 2, 128, 128), 1)

USUAL = (
    *("attention_vision", "attention_resampler", "attention_prefill_int8", "attention_decode_f16"),
    *("one_row_w4", "rows_f32", "one_row_w4a8", "rows_w8a8", "matrices_f16"),
    *("rms_norm", "head_norm", "quantize_groups", "silu_gate"),
    *("delta_rule", "delta_step"),
)
"""One space of each kind."""
