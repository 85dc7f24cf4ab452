"""Float matmul on a CPU: x (m, k) times a weight in panels of 16 output columns, in any storage.

Panels are (ceil(n / 16), k, 16), so that 16 consecutive outputs are one vector load.
"""

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu.matmul import COLUMNS, ROWS
from handglass.schedules.isa.register_tiles import LANES, YMM, Tile
from handglass.schedules.rule import PATTERN

Dequantize = Callable[[Expr, Expr, Expr], Expr]
"""(panel, k, lane) -> float32 value of the weight."""


def matmul(
    x: te.Tensor,
    out_features: int,
    depth: int,
    dequantize: Dequantize | te.Tensor,
    tile: Tile = YMM,
) -> te.Tensor:
    """(m, k) times panels -> (m, out_features) float32.

    `depth` is k rounded up to the depth of the panels; `tile` is the register tile.
    """
    m, k = x.shape
    one_row = isinstance(m, tirx.IntImm) and int(m) == 1
    width = -(-out_features // LANES) * LANES
    height = m if one_row else (m + tile.rows - 1) // tile.rows * tile.rows
    rows = x if one_row and int(k) == depth else _rows(x, height, depth)
    panels = _panels(width // LANES, depth, dequantize)
    step = te.reduce_axis((0, depth), "k")
    product = te.compute(
        (height, width),
        lambda i, j: te.sum(rows[i, step] * panels[j // LANES, step, j % LANES], axis=step),
        name="matmul",
        attrs={PATTERN: "matmul", ROWS: tile.rows, COLUMNS: tile.columns},
    )
    return te.compute((m, out_features), lambda i, j: product[i, j], name="out")


def _rows(x: te.Tensor, height: Expr, depth: int) -> te.Tensor:
    """Pad x with zeros to whole register tiles, so that the inner loops need no condition."""
    m, k = x.shape
    zero = tirx.const(0.0, "float32")
    return te.compute(
        (height, depth),
        lambda i, j: tirx.if_then_else(tirx.all(i < m, j < k), x[i, j], zero),
        name="rows",
        attrs={PATTERN: "rows"},
    )


def _panels(count: int, depth: int, dequantize: Dequantize | te.Tensor) -> te.Tensor:
    if isinstance(dequantize, te.Tensor):
        return dequantize
    return te.compute(
        (count, depth, LANES), dequantize, name="dequantize", attrs={PATTERN: "dequantize"}
    )
