"""Rows of activations as integers, as matmuls on integers read them."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te
from tvm.ir import Expr

from .padded import is_one_row


@dataclass(frozen=True)
class Quantized:
    """Rows x (m, depth) as integers; a value is `codes * scale`.

    scale and offset are (m, depth/32) beside 4-bit weights, (m, 1) beside 8-bit ones. offset is
    what the weights' zero point contributes, to be added to the integer sum; None where there is
    none.
    """

    codes: te.Tensor
    scale: te.Tensor
    offset: te.Tensor | None = None

    def shifted(self, value: Expr, i: Expr, g: Expr | int) -> Expr:
        """A sum of products of row i and group g, without what the zero point contributes."""
        return value if self.offset is None else value + self.offset[i, g]

    def height(self, rows: int) -> Expr:
        """How many rows there are in whole register tiles of `rows`; one row stays one."""
        m = self.codes.shape[0]
        return m if is_one_row(m) else (m + rows - 1) // rows * rows
