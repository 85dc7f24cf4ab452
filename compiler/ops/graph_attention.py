"""Attention between rows that hold all heads side by side, for batches and padded texts.

The operator (attention.py) has one sequence and no mask. A batch becomes more heads. A number per
position that is added to all its scores becomes one more column of the keys, which the queries
multiply by one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.register_tiles import LANES

from .attention import attention_over_all
from .lazy import Lazy
from .padded import round_up

LOWEST = -1e30
"""Masks are raised to this: products with it stay finite, and no weight is left of it."""


@dataclass(frozen=True)
class Columns:
    """Which columns of rows (batch * n, width) are heads: `heads` times `d`, from `first` on.

    Rows are by sequences, or by positions if `is_by_position`.
    """

    batch: int
    n: int
    heads: int
    d: int
    first: int = 0
    is_by_position: bool = False

    def row(self, sequence: Expr, position: Expr) -> Expr:
        """The row of a position of a sequence."""
        if self.is_by_position:
            return position * self.batch + sequence
        return sequence * self.n + position

    def place(self, row: Expr) -> tuple[Expr, Expr]:
        """The inverse of `row`: sequence and position."""
        if self.is_by_position:
            return row % self.batch, row // self.batch
        return row // self.n, row % self.n

    def view(self, rows: te.Tensor, mask: te.Tensor | None = None, other: float = 0.0) -> Lazy:
        """(n, batch * heads, d), or wider: then column d is `mask` (batch or 1, n), or `other`, and
        those from there on are zero."""
        batch, n, heads, d, first = self.batch, self.n, self.heads, self.d, self.first

        def value(ins, i, h, e):
            return ins[0][self.row(h // heads, i), first + h % heads * d + e]

        if mask is None and not other:
            return Lazy("split", (n, batch * heads, d), (rows,), value)
        zero = tirx.const(0.0, "float32")

        def wider(ins, i, h, e):
            number = tirx.const(other, "float32")
            if mask is not None:
                row = h // heads if int(mask.shape[0]) > 1 else 0
                number = tirx.max(ins[1][row, i], tirx.const(LOWEST, "float32"))
            added = tirx.if_then_else(e == d, number, zero)
            return tirx.if_then_else(e < d, value(ins, i, h, tirx.min(e, d - 1)), added)

        inputs = (rows,) if mask is None else (rows, mask)
        return Lazy("split", (n, batch * heads, masked_width(d)), inputs, wider)


def masked_width(d: int) -> int:
    """Columns of a head with one for the mask, and zeros up to a whole vector."""
    return round_up(d + 1, LANES)


def attention_of_rows(
    q: te.Tensor,
    k: te.Tensor,
    v: te.Tensor,
    columns: tuple[Columns, Columns, Columns],
    scale: float,
    tiles: bool | str = False,
    is_causal: bool = False,
    mask: te.Tensor | None = None,
) -> te.Tensor:
    """softmax(q k^T * scale + mask) v -> (n, batch * heads * d), or wider heads with a mask.

    q, k, v are rows, whose heads are in `columns`; mask (batch or 1, n) is one number per position.
    """
    in_q, in_k, in_v = columns
    if mask is None:
        views = in_q.view(q), in_k.view(k), in_v.view(v)
    else:
        views = in_q.view(q, other=1 / scale), in_k.view(k, mask), _zero_padded(in_v, v)
    return attention_over_all(*views, scale, tiles, is_causal)


def _zero_padded(columns: Columns, rows: te.Tensor) -> Lazy:
    narrow, zero = columns.view(rows), tirx.const(0.0, "float32")
    n, heads, d = narrow.shape

    def value(ins, i, h, e):
        return tirx.if_then_else(e < d, narrow.value(ins, i, h, tirx.min(e, d - 1)), zero)

    return Lazy("split", (n, heads, masked_width(int(d))), (rows,), value)


def side_by_side(x: te.Tensor, columns: Columns) -> te.Tensor:
    """(n, batch * heads * width) -> (batch * n, heads * d): one row per position of the batch."""
    batch, n, heads, d = columns.batch, columns.n, columns.heads, columns.d
    width = int(x.shape[1]) // (batch * heads)

    def value(i, j):
        sequence, position = columns.place(i)
        return x[position, (sequence * heads + j // d) * width + j % d]

    return te.compute((batch * n, heads * d), value, name="side_by_side")
