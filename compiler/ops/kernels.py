"""The matmul operators, by the kernel names of schedules/select.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te

from handglass.schedules import select
from handglass.schedules.gpu import padded_row
from handglass.schedules.gpu.limits import GpuLimits
from handglass.schedules.isa.integer_isa import Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import Units

from .amx_matmul import bfloat16_matmul, gated_matmul, int8_matmul, nibbles_to_words
from .dp4a_matmul import dp4a_matmul
from .gpu_matmul import gpu_matmul, warp_row
from .integer_matmul import dot_matmul, halves_matmul, tiled_dot_matmul
from .matmul import Dequantize, matmul
from .quantized import Quantized
from .smmla_matmul import smmla_matmul
from .tensor_matmul import tensor_dot, tensor_int4, tensor_matmul


@dataclass(frozen=True)
class Weight:
    """A packed weight with everything that an operator may need."""

    out_features: int
    depth: int
    """Number of inputs, rounded up to the depth of the panels."""
    parts: Sequence[te.Tensor]
    """Its arrays, in the order of the scheme's `shapes`."""
    read: Dequantize | te.Tensor
    """float32 value at (panel, k, lane)."""
    integers: Codes | None
    """The integer codes; None for float weights."""
    units: Units

    @property
    def codes(self) -> Codes:
        assert self.integers is not None, "an integer kernel needs integer weights"
        return self.integers

    @property
    def limits(self) -> GpuLimits:
        assert self.units.gpu is not None, "a GPU kernel needs a GPU target"
        return self.units.gpu


Operator = Callable[[Weight, Sequence[te.Tensor]], te.Tensor]
"""(weight, rows) -> (m, out_features) float32. Rows are one tensor (m, k) float32, one of
`tensor_matmul.round_rows` if the kernel takes half rows, or the tensors of `Quantized` if its
activations are integers."""


def multiply(kernel: select.Kernel, weight: Weight, rows: Sequence[te.Tensor]) -> te.Tensor:
    """Rows (m, k) times the weight -> (m, out_features) float32, with this kernel."""
    return OPERATORS[kernel.name](weight, rows)


def has_gated(kernel: select.Kernel, f: int) -> bool:
    """Whether `multiply_gated` has an operator for f gates and as many values."""
    return kernel is select.AMX_INT4 and f % LANES == 0


def multiply_gated(weight: Weight, rows: Sequence[te.Tensor]) -> te.Tensor:
    """Rows (m, k) times f gates and f values -> silu(gate) * value, (m, f) float32."""
    return gated_matmul(rows[0], weight.out_features // 2, *weight.parts)


def _float32(w: Weight, rows: Sequence[te.Tensor]) -> te.Tensor:
    return matmul(rows[0], w.out_features, w.depth, w.read, w.units.floats)


def _gpu_float(half: bool) -> Operator:
    return lambda w, rows: gpu_matmul(rows[0], w.out_features, w.depth, w.read, w.limits, half)


def _warp_row(pattern: str) -> Operator:
    return lambda w, rows: warp_row(rows[0], w.out_features, w.depth, w.read, pattern)


def _integers(operator: Callable[..., te.Tensor]) -> Operator:
    """Adapt an operator with arguments (rows, out_features, codes, *parts)."""
    return lambda w, rows: operator(Quantized(*rows), w.out_features, w.codes, *w.parts)


OPERATORS: dict[str, Operator] = {
    select.FLOAT32.name: _float32,
    select.DOT.name: _integers(dot_matmul),
    select.DOT_TILES.name: _integers(tiled_dot_matmul),
    select.DOT_HALVES.name: _integers(halves_matmul),
    select.SMMLA.name: _integers(smmla_matmul),
    select.AMX_BFLOAT16.name: lambda w, rows: bfloat16_matmul(rows[0], w.out_features, w.parts[0]),
    select.AMX_INT4.name: lambda w, rows: bfloat16_matmul(
        rows[0], w.out_features, nibbles_to_words(*w.parts)
    ),
    select.AMX_INT8.name: _integers(int8_matmul),
    select.GPU_FLOAT32.name: _gpu_float(half=False),
    select.GPU_FLOAT16.name: _gpu_float(half=True),
    select.MATRICES.name: _gpu_float(half=True),
    select.TENSOR_FLOAT16.name: lambda w, rows: tensor_matmul(rows[0], w.out_features, w.parts[0]),
    select.TENSOR_INT4.name: lambda w, rows: tensor_int4(rows[0], w.out_features, *w.parts),
    select.TENSOR_INT8.name: _integers(tensor_dot),
    select.DP4A_WORDS.name: _integers(dp4a_matmul),
    select.DP4A_ROW.name: _integers(dp4a_matmul),
    select.INT4_ROW.name: _warp_row(padded_row.CODES),
    select.FLOAT_ROW.name: _warp_row(padded_row.FLOATS),
}
