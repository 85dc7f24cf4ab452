"""The learned positions of a vision tower: a row of a square table per patch.

A tower trained on one grid either takes rows of its table for patches of another grid
(`LookedUp`), or enlarges and shrinks the table to that grid (`Resized`). A tower with a class token
has one row more, the first (`WithClass`). The runtime's method of the same purpose is
`VisionEntry.positions`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn

from ..checkpoints.checkpoint import Checkpoint
from ..schemes.quantize import find_scheme
from ..schemes.scheme import Scheme
from .layers import multiply, opaque
from .leaves import Rows, Stored
from .weights import Panels

SIDE = 1 << 12
"""The ids of `Resized` are row * SIDE + column; a tile has fewer columns."""
CUBIC = -0.5
"""The parameter of the Keys cubic, as in Pillow and in antialiased resizing of torch."""


class LookedUp(nn.Module):
    """position_ids (n,), each a row of the table -> (n, d)."""

    def __init__(self, name: str, side: int, d: int) -> None:
        super().__init__()
        table = Rows(name, (side * side, d))
        self.table = Stored(table.shape, table.read, [table])

    def forward(self, position_ids: nn.Tensor) -> nn.Tensor:
        return opaque(gather, "positions", self.table.value, position_ids)


class WithClass(LookedUp):
    """position_ids (n,), 0 for the class token and from 1 on for patches -> (n, d).

    The class token is a learned row without pixels. Its patch is zeros and the tower's patches have
    no bias, so that the sum of row and position stands in the table.
    """

    def __init__(self, name: str, class_token: str, side: int, d: int) -> None:
        super().__init__(name, side, d)
        table, token = Rows(name, (side * side + 1, d)), Rows(class_token, (d,))

        def read(checkpoint: Checkpoint) -> np.ndarray:
            rows = table.read(checkpoint)
            rows[0] += token.read(checkpoint)
            return rows

        self.table = Stored(table.shape, read, [table, token])


class Resized(nn.Module):
    """position_ids (n,), each the place of a patch -> (n, d).

    The ids are row * SIDE + column, by rows, so the last one has the size of the grid. The table
    (1, side * side, d) is resized to that grid by antialiased bicubic interpolation along each
    axis; all patches together are one product of their weights (n, side * side) with the table.
    """

    def __init__(self, name: str, side: int, d: int, scheme: Scheme) -> None:
        super().__init__()
        self.side = side
        # Not rounded: the table has 729 rows, and the product is a thousandth of the tower's.
        self.table = Table(find_scheme("f32", scheme.units), name, side * side, d)

    def forward(self, position_ids: nn.Tensor) -> nn.Tensor:
        axes = opaque(lambda ids: _axes(ids, self.side), "position_axes", position_ids)
        sums = opaque(_sums, "position_sums", axes)
        weights = opaque(_pairs, "position_weights", axes, sums)
        return multiply(weights, self.table)


class Table(Panels):
    """The stored (1, rows, d) as a matrix (rows, d) that is the right factor of a product."""

    def __init__(self, scheme: Scheme, name: str, rows: int, d: int) -> None:
        super().__init__(scheme, [Rows(name, (rows, d))], transpose=True)
        self.sources = (Rows(name, (1, rows, d)),)

    def _matrices(self, checkpoint: Checkpoint) -> Iterator[np.ndarray]:
        yield self.sources[0].read(checkpoint)[0].T


def gather(table: te.Tensor, ids: te.Tensor) -> te.Tensor:
    """The rows `ids` (n,) of the table: (n, d)."""
    shape = (ids.shape[0], table.shape[1])
    return te.compute(shape, lambda i, j: table[ids[i], j], name="positions")


def _axes(ids: te.Tensor, side: int) -> te.Tensor:
    """ids (n,) -> (n, 2 * side): the weight of each row of the table for each patch, then of each
    column, before they are normalized."""
    n, wide = ids.shape[0], tirx.const(SIDE, "int32")
    last = ids[n - 1]

    def value(i, j):
        is_row = j < side
        place = tirx.Select(is_row, ids[i] // wide, ids[i] % wide).astype("float32")
        size = tirx.Select(is_row, last // wide, last % wide).astype("float32") + _f32(1)
        ratio = _f32(side) / size
        centre = ratio * (place + _f32(0.5))
        step = (j % side).astype("float32") + _f32(0.5) - centre
        return _cubic(tirx.abs(step / tirx.max(ratio, _f32(1))))

    return te.compute((n, 2 * side), value, name="position_axes")


def _cubic(x: Expr) -> Expr:
    """The Keys cubic of x >= 0; 0 from 2 on."""
    a = CUBIC
    near = (_f32(a + 2) * x - _f32(a + 3)) * x * x + _f32(1)
    far = ((x - _f32(5)) * x + _f32(8)) * x * _f32(a) - _f32(4 * a)
    return tirx.Select(x < _f32(1), near, tirx.Select(x < _f32(2), far, _f32(0)))


def _sums(axes: te.Tensor) -> te.Tensor:
    """(n, 2 * side) -> (n, 2); at the borders, part of the cubic is outside of the table."""
    side = int(axes.shape[1]) // 2

    def value(i, axis):
        return sum((axes[i, axis * side + j] for j in range(1, side)), axes[i, axis * side])

    return te.compute((axes.shape[0], 2), value, name="position_sums")


def _pairs(axes: te.Tensor, sums: te.Tensor) -> te.Tensor:
    """(n, 2 * side), (n, 2) -> (n, side * side)."""
    side = int(axes.shape[1]) // 2

    def value(i, k):
        pair = axes[i, k // side] * axes[i, side + k % side]
        return pair / (sums[i, 0] * sums[i, 1])

    return te.compute((axes.shape[0], side * side), value, name="position_weights")


def _f32(value: float) -> Expr:
    return tirx.const(value, "float32")
