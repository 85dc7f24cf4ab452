"""The positions of a picture's patches, after learned rows without pixels: a class token, a token
for distillation, registers.

The patches of these rows are zeros, so that the table holds all that they are, and the bias of the
patches' convolution belongs to the rows of the patches alone. If pictures have another grid than
the table, it is resized at packing time: bicubic, with the cubic of torch's `interpolate`, which
differs with and without antialiasing.
"""

from __future__ import annotations

import math

import numpy as np
from tvm.relax.frontend import nn

from ..checkpoints.checkpoint import Checkpoint
from .config import VisionConfig
from .layers import opaque
from .leaves import Rows, Stored
from .position_tables import gather

CUBIC, SMOOTH = -0.75, -0.5
"""The parameters of the Keys cubic: of torch without and with antialiasing."""


class AfterTokens(nn.Module):
    """position_ids (n,): the tokens are counted from 0 on, then the patches -> (n, d)."""

    def __init__(self, config: VisionConfig, prefix: str) -> None:
        super().__init__()
        tokens, d, side = config.tokens, config.hidden_size, config.positions_per_side
        assert tokens is not None  # the caller has looked
        self.tokens, start = tokens, f"{prefix}." if prefix else ""
        names = config.names
        places = len(tokens.placed) + side * side
        self.positions = Rows(f"{start}{names.positions}", (1, places, d))
        self.bias = Rows(f"{start}{names.patches}.bias", (d,))
        self.placed = [Rows(f"{start}{name}", (1, 1, d)) for name in tokens.placed]
        shape = (1, tokens.register_count, d)
        self.registers = [Rows(f"{start}{tokens.registers}", shape)] if tokens.registers else []
        sources = [self.positions, self.bias, *self.placed, *self.registers]
        self.table = Stored((tokens.count + tokens.side**2, d), self._read, sources)

    def forward(self, position_ids: nn.Tensor) -> nn.Tensor:
        return opaque(gather, "positions", self.table.value, position_ids)

    def _read(self, checkpoint: Checkpoint) -> np.ndarray:
        (table,), count = self.positions.read(checkpoint), len(self.placed)
        first = [token.read(checkpoint)[0] for token in self.placed]
        grid = resized(table[count:], self.tokens.side, self.tokens.antialias)
        registers = [rows.read(checkpoint)[0] for rows in self.registers]
        placed = np.concatenate(first) + table[:count]
        return np.concatenate([placed, *registers, grid + self.bias.read(checkpoint)])


def resized(table: np.ndarray, side: int, antialias: bool) -> np.ndarray:
    """A table of a square of positions (n * n, d) for `side` rows and columns: (side * side, d)."""
    n = math.isqrt(len(table))
    if n == side:
        return table
    shares = axis_shares(n, side, antialias)
    square = table.reshape(n, n, -1).astype(np.float64)
    wide = np.einsum("ri,cj,ijd->rcd", shares, shares, square, optimize=True)
    return np.asarray(wide.reshape(side * side, -1), np.float32)


def axis_shares(n: int, side: int, antialias: bool) -> np.ndarray:
    """How much of each of n samples is in each of `side` new ones: (side, n).

    Smoothed, the cubic is as wide as the step if that is above 1, and what is beyond the border
    counts for nothing; else the sample at the border stands for what is beyond it.
    """
    step, a = n / side, SMOOTH if antialias else CUBIC
    width = max(step, 1.0) if antialias else 1.0
    reach = math.ceil(2 * width)
    at = np.arange(-reach, n + reach)
    centres = step * (np.arange(side) + 0.5)
    shares = _cubic(np.abs(at + 0.5 - centres[:, None]) / width, a)
    inner = shares[:, reach : reach + n].copy()
    if not antialias:
        inner[:, 0] += shares[:, :reach].sum(1)
        inner[:, -1] += shares[:, reach + n :].sum(1)
    return np.asarray(inner / inner.sum(1, keepdims=True))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The Keys cubic of x >= 0; 0 from 2 on."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
