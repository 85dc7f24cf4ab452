"""Quantized activation rows, the row operand of integer matmuls."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te
from tvm.ir import Expr

from .padded import is_one_row


@dataclass(frozen=True)
class Quantized:
    """Rows x (m, depth) as integers; a value is `codes * scale`.

    scale and offset are (m, depth / 32) for 4-bit weights and (m, 1) for 8-bit weights. offset is
    added to the integer sum to cancel the contribution of the weights' zero point; None without a
    zero point.
    """

    codes: te.Tensor
    scale: te.Tensor
    offset: te.Tensor | None = None

    def shifted(self, value: Expr, i: Expr, g: Expr | int) -> Expr:
        """The sum of row i and group g without the contribution of the zero point."""
        return value if self.offset is None else value + self.offset[i, g]

    def height(self, rows: int) -> Expr:
        """The number of rows, rounded up to whole register tiles of `rows`; one row stays one."""
        m = self.codes.shape[0]
        return m if is_one_row(m) else (m + rows - 1) // rows * rows
