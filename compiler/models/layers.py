"""The layers that models are made of: linear maps and norms.

What a layer computes is in `compiler/ops`, how its weights are stored in `compiler/schemes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..ops import matmul as matmul_op
from ..ops import norm as norm_op
from ..ops.amx_matmul import bfloat16_matmul
from ..ops.gpu_matmul import gpu_matmul
from ..ops.integer_matmul import Quantized, integer_matmul
from ..ops.quantize_rows import quantize_rows
from ..schemes.scheme import Scheme
from .leaves import Rows, vector
from .weights import Panels

OUT_ELEMENTWISE, OPAQUE = 4, 8
"""Relax's operator kinds: takes an element-wise epilogue; is never fused."""


@dataclass(frozen=True)
class Source:
    """Rows (m, d) that are not computed yet: a matmul on integers has its input computed and
    quantised in one kernel, one on floats as a kernel of its own."""

    name: str
    compute: Callable[..., te.Tensor]
    args: tuple[nn.Tensor, ...]
    last: bool = False
    """Whether it is one row, however many the arguments have."""

    def computed(self) -> nn.Tensor:
        return opaque(self.compute, self.name, *self.args)

    def quantized(self, scheme: Scheme, depth: int) -> list[nn.Tensor]:
        """Codes, scale and, where the weights have a zero point, offset: see `Quantized`."""
        codes = scheme.codes
        assert codes is not None, scheme.name
        return list(
            opaque(
                lambda *args: quantize_rows(self.compute(*args), codes, depth),
                f"{self.name}_quantize",
                *self.args,
            )
        )


def is_one_row(x: nn.Tensor | Source) -> bool:
    """Whether x has one row in every call: a step of decoding, or what the head reads."""
    rows = (x.args[0] if isinstance(x, Source) else x).shape[0]
    return (isinstance(x, Source) and x.last) or (isinstance(rows, int) and rows == 1)


def as_source(x: nn.Tensor) -> Source:
    """Rows that are there already."""
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
    scheme, depth = panels.scheme, panels.scheme.depth(panels.in_features)
    tiles, half = (wanted and not is_one_row(x) for wanted in _of_many_rows(scheme))
    if scheme.codes is None or tiles or half:
        rows = [x.computed() if isinstance(x, Source) else x]
        matmul = _tile_matmul(scheme) if tiles else _float_matmul(scheme, depth, half)
    else:
        source = x if isinstance(x, Source) else as_source(x)
        rows = source.quantized(scheme, depth)
        matmul = _integer_matmul(scheme, len(rows))
    products = [
        op.tensor_expr_op(
            partial(matmul, piece.out_features),
            "matmul",
            [*rows, *piece.tensors],
            attrs={"op_pattern": OUT_ELEMENTWISE},
        )
        for piece in panels.pieces
    ]
    return products[0] if len(products) == 1 else op.concat(products, 1)


Matmul = Callable[..., te.Tensor]
"""(out_features, *rows, *parts of the weight) -> (m, out_features)"""


def _of_many_rows(scheme: Scheme) -> tuple[bool, bool]:
    """Whether they are multiplied in tile registers, or as float16."""
    return scheme.bfloat16_rows, scheme.half_rows


def _float_matmul(scheme: Scheme, depth: int, half: bool) -> Matmul:
    shared, tile = scheme.isa.shared, scheme.isa.floats
    if shared is not None:
        return lambda n, x, *parts: gpu_matmul(x, n, depth, scheme.read(parts), shared, half)
    return lambda n, x, *parts: matmul_op.matmul(x, n, depth, scheme.read(parts), tile)


def _tile_matmul(scheme: Scheme) -> Matmul:
    return lambda width, x, *parts: bfloat16_matmul(x, width, scheme.words(parts))


def _integer_matmul(scheme: Scheme, inputs: int) -> Matmul:
    codes = scheme.codes
    assert codes is not None, scheme.name

    def compute(width: int, *tensors: te.Tensor) -> te.Tensor:
        values, scale, *offset = tensors[:inputs]
        x = Quantized(values, scale, offset[0] if offset else None)
        return integer_matmul(x, width, codes, *tensors[inputs:])

    return compute


def opaque(function: Callable, name: str, *args: nn.Tensor | tirx.Var | int):
    """A tensor expression as a kernel of its own; a tuple of tensors where it returns several."""
    return op.tensor_expr_op(function, name, list(args), attrs={"op_pattern": OPAQUE})


class RMSNorm(nn.Module):
    """x (m, d) -> (m, d)."""

    def __init__(self, name: str, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = vector(Rows(f"{name}.weight", (hidden_size,))), eps

    def forward(self, x: nn.Tensor) -> Source:
        return Source(
            "rms_norm", lambda x, w: norm_op.rms_norm(x, w, self.eps), (x, self.weight.value)
        )


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
