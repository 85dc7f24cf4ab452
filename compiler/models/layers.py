"""The layers that models are built from: linear layers and norms.

`compiler/ops` defines their arithmetic, `compiler/schemes` the storage of their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.schedules.select import INTEGERS, Kernel

from ..ops import exponential, kernels
from ..ops import norm as norm_op
from ..ops.padded import round_up
from ..ops.quantize_rows import quantize_rows
from ..ops.tensor_matmul import round_rows
from ..schemes.scheme import Scheme, selection_of
from .leaves import Rows, Stored, vector
from .weights import Panels

OUT_ELEMENTWISE, OPAQUE = 4, 8
"""Relax's operator pattern kinds: can fuse an elementwise epilogue; is never fused."""


@dataclass(frozen=True)
class Source:
    """Rows (m, d) whose computation is deferred until their consumer is known.

    An integer matmul fuses the computation with quantization into one kernel; a float matmul reads
    the output of a separate kernel.
    """

    name: str
    compute: Callable[..., te.Tensor]
    args: tuple[nn.Tensor, ...]
    last: bool = False
    """Whether the result has one row, however many the arguments have."""

    def computed(self) -> nn.Tensor:
        return opaque(self.compute, self.name, *self.args)

    def quantized(self, scheme: Scheme, depth: int) -> list[nn.Tensor]:
        """Codes, scale and, if the weights have a zero point, offset: see `Quantized`."""
        codes = scheme.codes
        assert codes is not None, scheme.name
        return list(
            opaque(
                lambda *args: quantize_rows(self.compute(*args), codes, depth),
                f"{self.name}_quantize",
                *self.args,
            )
        )

    def rounded(self, depth: int, reordered: bool) -> nn.Tensor:
        """float16 rows (m, depth), padded with zeros: see `round_rows`."""
        return opaque(
            lambda *args: round_rows(self.compute(*args), depth, reordered),
            f"{self.name}_round",
            *self.args,
        )


def is_one_row(x: nn.Tensor | Source) -> bool:
    """Whether x has one row in every call: a decode step, or the input of the head."""
    rows = (x.args[0] if isinstance(x, Source) else x).shape[0]
    return (isinstance(x, Source) and x.last) or (isinstance(rows, int) and rows == 1)


def as_source(x: nn.Tensor) -> Source:
    """Rows that are already computed."""
    return Source("rows", lambda x: x, (x,))


class Linear(nn.Module):
    """y = x W^T + b, x (m, in) -> (m, out)."""

    def __init__(
        self,
        scheme: Scheme,
        weight: Sequence[Rows],
        bias: Sequence[Rows] = (),
        transpose: bool = False,
    ) -> None:
        super().__init__()
        self.panels = Panels(scheme, weight, transpose)
        self.bias = vector(*bias) if bias else None

    def forward(self, x: nn.Tensor | Source) -> nn.Tensor:
        y = multiply(x, self.panels)
        return y if self.bias is None else op.add(y, self.bias.value)


def multiply(x: nn.Tensor | Source, panels: Panels) -> nn.Tensor:
    """x (m, in) times packed weights -> (m, out)."""
    scheme = panels.scheme
    kernel = selection_of(scheme).kernel(is_one_row(x))
    rows = _rows_for(kernel, x, panels)
    products = [
        op.tensor_expr_op(
            partial(product, scheme, kernel, (piece.out_features, panels.in_features), len(rows)),
            "matmul",
            [*rows, *piece.tensors],
            attrs={"op_pattern": OUT_ELEMENTWISE},
        )
        for piece in panels.pieces
    ]
    return products[0] if len(products) == 1 else op.concat(products, 1)


def silu_gated(x: nn.Tensor | Source, linear: Linear) -> nn.Tensor | Source:
    """x (m, in) times gates and values, (m, 2 f) -> silu(gate) * value, (m, f).

    One kernel if the matmul has one that knows both; otherwise a kernel of its own, or the next.
    """
    panels, f = linear.panels, linear.panels.out_features // 2
    kernel = selection_of(panels.scheme).kernel(is_one_row(x))
    if linear.bias is not None or len(panels.pieces) > 1 or not kernels.has_gated(kernel, f):
        return Source("silu_gate", exponential.silu_gate, (linear(x),))
    (piece,), rows = panels.pieces, _rows_for(kernel, x, panels)
    weight = partial(weight_of, panels.scheme, (2 * f, panels.in_features))
    return opaque(
        lambda *tensors: kernels.multiply_gated(weight(tensors[len(rows) :]), tensors[: len(rows)]),
        "gated_matmul",
        *rows,
        *piece.tensors,
    )


def _rows_for(kernel: Kernel, x: nn.Tensor | Source, panels: Panels) -> list[nn.Tensor]:
    """The kernel's row operands: one tensor of floats, or the tensors of `Quantized`."""
    source = x if isinstance(x, Source) else as_source(x)
    depth = round_up(panels.scheme.depth(panels.in_features), kernel.step)
    if kernel.activations == INTEGERS:
        return source.quantized(panels.scheme, depth)
    if kernel.half_rows:
        return [source.rounded(depth, kernel.reordered)]
    return [x.computed() if isinstance(x, Source) else x]


def product(
    scheme: Scheme, kernel: Kernel, shape: tuple[int, int], rows: int, *tensors: te.Tensor
) -> te.Tensor:
    """Apply the kernel's operator to `tensors`.

    The first `rows` tensors are the row operands; the others are the parts of a weight of this
    scheme with `shape` (out, in).
    """
    return kernels.multiply(kernel, weight_of(scheme, shape, tensors[rows:]), tensors[:rows])


def weight_of(scheme: Scheme, shape: tuple[int, int], parts: Sequence[te.Tensor]) -> kernels.Weight:
    """The weight of this scheme with `shape` (out, in)."""
    (out_features, in_features), read = shape, scheme.read(parts)
    depth = scheme.depth(in_features)
    return kernels.Weight(out_features, depth, parts, read, scheme.codes, scheme.units)


def opaque(function: Callable, name: str, *args: nn.Tensor | tirx.Var | int):
    """A tensor expression as a kernel that is never fused. Several results form a tuple."""
    return op.tensor_expr_op(function, name, list(args), attrs={"op_pattern": OPAQUE})


class RMSNorm(nn.Module):
    """x (m, d) -> (m, d). `is_centred`: the checkpoint stores the weight minus one."""

    def __init__(self, name: str, hidden_size: int, eps: float, is_centred: bool = False) -> None:
        super().__init__()
        self.weight = norm_weight(Rows(f"{name}.weight", (hidden_size,)), is_centred)
        self.eps = eps

    def forward(self, x: nn.Tensor) -> Source:
        return Source(
            "rms_norm", lambda x, w: norm_op.rms_norm(x, w, self.eps), (x, self.weight.value)
        )


def norm_weight(source: Rows, is_centred: bool) -> Stored:
    """The weight of an RMSNorm."""
    one = np.float32(is_centred)
    return Stored((source.count,), lambda ckpt: source.read(ckpt) + one, [source])


class LayerNorm(nn.Module):
    """x (m, d) -> (m, d)."""

    def __init__(self, name: str, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = vector(Rows(f"{name}.weight", (hidden_size,)))
        self.bias = vector(Rows(f"{name}.bias", (hidden_size,)))
        self.eps = eps

    def forward(self, x: nn.Tensor) -> Source:
        return Source(
            "layer_norm",
            lambda x, w, b: norm_op.layer_norm(x, w, b, self.eps),
            (x, self.weight.value, self.bias.value),
        )


def view(x: nn.Tensor, *shape: Expr | int) -> nn.Tensor:
    """The same memory with another shape. `op.reshape` would be compiled to a copy."""
    same = relax.op.memory.view(x._expr, shape)
    return nn.Tensor(_expr=relax.BlockBuilder.current().emit(same))


def grouped(x: nn.Tensor, size: int, name: str, apart: bool = False) -> nn.Tensor:
    """x (n, d), `size` rows as one -> (n / size, size * d), or (n / size, size, d) if `apart`.

    The first dimension of the result is a new symbol called `name`: with an expression in its
    place, layers before and after the grouping could not share their kernels.
    """
    n, d = x.shape
    inner = (size, d) if apart else (size * d,)
    fewer = view(x, n // size, *inner)._expr
    kind = relax.TensorType([tirx.Var(name, "int64"), *inner], x.dtype)
    return nn.Tensor(_expr=relax.BlockBuilder.current().match_cast(fewer, kind))
