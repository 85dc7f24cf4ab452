"""Matmuls on a GPU for tests: the scheduled function, its arguments, and the result of numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from operator_device import KIND, VULKAN
from tvm import te, tirx
from tvm.s_tir import Schedule
from vulkan_running import tvm_target

from handglass.compiler.models import layers
from handglass.compiler.ops.padded import round_up
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import Scheme, selection_of
from handglass.schedules import RULES_BY_KIND
from handglass.schedules.choices import DEFAULTS, Choices
from handglass.schedules.gpu import dot, matmul
from handglass.schedules.isa.integer_isa import GROUP
from handglass.schedules.select import INTEGERS, Kernel, find_units
from handglass.schedules.vulkan import cooperative_matrix as matrix

RULES = (matrix.RULE, matmul.RULE, dot.RULE)
ROWS = (1, 7, 64, 333)
LARGEST_HALF = 65504
Epilogue = Callable[[te.Tensor], te.Tensor]


@dataclass(frozen=True)
class Product:
    """y (m, n) = x (m, k) times weights of a scheme, for one TVM target of a GPU."""

    scheme: str
    n: int
    k: int
    target: Mapping[str, Any]

    @property
    def storage(self) -> Scheme:
        return SCHEMES[self.scheme].on(find_units(tvm_target(self.target)))

    @property
    def half(self) -> bool:
        """Whether many rows are rounded to float16."""
        return self.many.activations == "float16"

    def function(self, m: int | None = None, bias: bool = False) -> tirx.PrimFunc:
        """The function for `m` rows or, if None, a symbolic number of rows.

        With `bias`, the epilogue adds a bias (n), applies tanh and adds a residual (m, n).
        """
        rows = tirx.Var("m", "int64") if m is None else m
        parts = self.storage.shapes(self.n, self.k).items()
        weight = [placeholder(s, d, name) for name, (s, d) in parts]
        x, y = self._computed(rows, weight)
        if not bias:
            return te.create_prim_func([*x, *weight, y])
        b = placeholder((self.n,), "float32", "bias")
        r = placeholder((rows, self.n), "float32", "residual")
        added = te.compute(y.shape, lambda i, j: y[i, j] + b[j], name="add_bias")
        z = te.compute(y.shape, lambda i, j: r[i, j] + te.tanh(added[i, j]), name="add_residual")
        return te.create_prim_func([*x, *weight, b, r, z])

    def _computed(self, m: Any, weight: Sequence[te.Tensor]) -> tuple[list[te.Tensor], te.Tensor]:
        storage, depth = self.storage, self.storage.depth(self.k)
        kernel = selection_of(storage).kernel(isinstance(m, int) and m == 1)
        x = [placeholder((m, self.k), "float32")]
        if kernel.activations == INTEGERS:
            scale = placeholder((m, self.groups), "float32", "x_scale")
            x = [placeholder((m, round_up(depth, kernel.step) // 4), "int32"), scale]
        if kernel.half_rows:
            x = [placeholder((m, self.padded), "float16")]
        return x, layers.product(storage, kernel, (self.n, self.k), len(x), *x, *weight)

    @property
    def groups(self) -> int:
        codes, depth = self.storage.codes, self.storage.depth(self.k)
        return depth // GROUP if codes is not None and codes.bits == 4 else 1

    @property
    def many(self) -> Kernel:
        """The kernel of many rows."""
        return selection_of(self.storage).many_rows

    @property
    def padded(self) -> int:
        """Inputs of many rows with the padding of their kernel."""
        return round_up(self.storage.depth(self.k), self.many.step)

    def inputs(self, x: np.ndarray) -> list[np.ndarray]:
        """The arguments of the function for float32 rows."""
        codes, depth = self.storage.codes, self.storage.depth(self.k)
        if self.many.half_rows and len(x) > 1:
            rows = np.pad(to_half(x), ((0, 0), (0, self.padded - self.k)))
            return [by_nibbles(rows) if self.many.reordered else rows]
        if codes is None or (self.half and len(x) > 1):
            return [x]
        q, scale = quantized(x, depth, self.groups)
        if len(x) > 1:
            q = np.pad(q, ((0, 0), (0, self.padded - depth)))
        return [q.view("<i4").reshape(len(x), -1), scale / np.float32(codes.magnify)]

    def expected(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The float64 product of both operands after rounding."""
        kept = self.storage.unpack(self.storage.pack(weight), self.n, self.k).astype(np.float64)
        if self.half and len(x) > 1:
            x, kept = x.astype(np.float16), kept.astype(np.float16)
        elif self.storage.codes is not None:
            q, scale = quantized(x, self.storage.depth(self.k), self.groups)
            rows = q.reshape(len(x), self.groups, -1) * scale[..., None].astype(np.float64)
            x = rows.reshape(len(x), -1)[:, : self.k]
        return x.astype(np.float64) @ kept.astype(np.float64).T

    def scheduled(self, func: tirx.PrimFunc, choices: Choices = DEFAULTS) -> tirx.PrimFunc:
        """Schedule the function by the first rule that takes it."""
        for rule in RULES if KIND == VULKAN else RULES_BY_KIND[KIND]:
            sch = Schedule(func)
            if rule(sch, tvm_target(self.target), choices):
                return sch.mod["main"]
        raise AssertionError("no rule takes this function")


def to_half(x: np.ndarray) -> np.ndarray:
    """As the kernel before rounds rows: what float16 does not have becomes its largest number."""
    bounded = np.clip(x, -LARGEST_HALF, LARGEST_HALF)
    return np.where(np.isfinite(x), bounded, x).astype(np.float16)


def by_nibbles(rows: np.ndarray) -> np.ndarray:
    """Rows in the order of nibbles: of four words, the first and third inputs, then the others."""
    words = rows.reshape(len(rows), -1, 4, 2, 2)  # 16 inputs: word, input // 2, input % 2
    return np.ascontiguousarray(words.transpose(0, 1, 4, 2, 3).reshape(len(rows), -1))


def quantized(x: np.ndarray, depth: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantize rows to int8 (m, depth) and scales (m, groups), written straightforwardly."""
    rows = np.pad(x, ((0, 0), (0, depth - x.shape[1]))).reshape(len(x), groups, -1)
    peak = np.abs(rows).max(-1, keepdims=True)
    factor = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    codes = np.rint(np.nan_to_num(rows * factor)).astype(np.int8)
    return np.ascontiguousarray(codes.reshape(len(x), depth)), peak[..., 0] / np.float32(127)


def placeholder(shape: Sequence[Any], dtype: str, name: str = "x") -> te.Tensor:
    """A placeholder with int64 extents, as in Relax."""
    dims = [tirx.IntImm("int64", n) if isinstance(n, int) else n for n in shape]
    return te.placeholder(dims, dtype, name)
