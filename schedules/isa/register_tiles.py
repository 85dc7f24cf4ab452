"""Register tiles: the sums of a matmul that stay in vector registers while its inputs pass by."""

from __future__ import annotations

from dataclasses import dataclass

LANES = 16
"""Outputs of a panel, in which all weights lie: one vector load, or a few."""


@dataclass(frozen=True)
class Tile:
    """What stays in registers at a time: integer sums, scaled sums and what feeds them."""

    rows: int
    columns: int
    """Outputs of a tile of several rows: 16 or a divisor; of floats, which need no other sums, also
    several panels."""
    panels: int
    """Panels of 16 outputs side by side where there is one row."""


YMM = Tile(6, LANES, 4)
# 32 registers of 512 bits: twice the rows for integers, two panels more for floats
ZMM, ZMM_FLOATS = Tile(12, LANES, 4), Tile(12, 2 * LANES, 4)
# 32 registers of 128 bits: 8 integer sums and their 8 scaled ones leave half of them to operands.
# Bytes are scaled once at the end, so that all 16 may be integers.
NEON, NEON_BYTES = Tile(8, 4, 1), Tile(8, 8, 1)
