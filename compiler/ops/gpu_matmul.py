"""Float matmul on a GPU: x (m, k) times panels of weights.

Many rows are multiplied in tiles that a workgroup shares (schedules/gpu/matmul.py). Padding,
rounding and dequantization are part of the copies to shared memory, so they are done once per tile
and not once per product.
"""

from __future__ import annotations

from tvm import te
from tvm.ir import Expr

from handglass.schedules.gpu import padded_row as row
from handglass.schedules.gpu.half import to_half
from handglass.schedules.gpu.limits import GpuLimits
from handglass.schedules.isa.integer_isa import GROUP
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .index_type import int64
from .matmul import Dequantize
from .padded import (
    is_one_row,
    padded_columns,
    padded_rows,
    round_up,
    whole_columns,
    whole_tiles,
)


def gpu_matmul(
    x: te.Tensor,
    out_features: int,
    depth: int,
    dequantize: Dequantize | te.Tensor,
    limits: GpuLimits,
    half: bool,
) -> te.Tensor:
    """(m, k) times panels -> (m, out_features) float32.

    `depth` is k rounded up to the depth of the panels. `half` rounds both operands to float16, for
    many rows only. Sums are float32.
    """
    m = x.shape[0]
    # one row streams the weights, whose inputs are divided evenly among threads
    inputs = round_up(depth, GROUP if is_one_row(m) else limits.depth)
    columns = padded_columns(
        _reader(dequantize, "float16" if half else "float32"),
        (depth, round_up(out_features, LANES)),
        (inputs, whole_columns(out_features, m, limits.columns)),
        "dequantize",
    )
    shape = (whole_tiles(m, limits.rows), inputs)
    rows = padded_rows(x, shape, convert=to_half) if half else padded_rows(x, shape)
    product = float32_product(rows, columns)
    return te.compute((m, int64(out_features)), lambda i, j: product[i, j], name="out")


def warp_row(
    x: te.Tensor,
    out_features: int,
    depth: int,
    dequantize: Dequantize | te.Tensor,
    pattern: str,
) -> te.Tensor:
    """One row (1, k) times panels -> (1, out_features) float32, for warps of an NVIDIA GPU.

    `pattern` is that of the weights. Both operands are padded to whole workgroups
    (schedules/gpu/padded_row.py).
    """
    inputs, width = round_up(depth, row.INPUTS), round_up(out_features, row.COLUMNS)
    columns = padded_columns(
        _reader(dequantize, "float32"),
        (depth, round_up(out_features, LANES)),
        (inputs, width),
        pattern,
    )
    product = float32_product(padded_rows(x, (x.shape[0], inputs)), columns)
    return te.compute((x.shape[0], int64(out_features)), lambda i, j: product[i, j], name="out")


def _reader(dequantize: Dequantize | te.Tensor, dtype: str) -> Dequantize:
    def read(*place: Expr) -> Expr:
        value = dequantize[place] if isinstance(dequantize, te.Tensor) else dequantize(*place)
        return value.astype(dtype)

    return read


def float32_product(rows: te.Tensor, columns: te.Tensor) -> te.Tensor:
    """rows (height, inputs) times columns (inputs, width) -> (height, width)."""
    height, (inputs, width) = rows.shape[0], columns.shape
    k = te.reduce_axis((int64(0), inputs), "k")

    def term(i: Expr, j: Expr) -> Expr:
        return te.sum(rows[i, k].astype("float32") * columns[k, j].astype("float32"), axis=k)

    return te.compute((height, width), term, name="matmul", attrs={PATTERN: "matmul"})
