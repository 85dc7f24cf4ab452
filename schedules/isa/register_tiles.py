"""Register tiles: the sums of a matmul that stay in vector registers during the reduction."""

from __future__ import annotations

from dataclasses import dataclass

LANES = 16
"""Outputs of a panel, the unit in which all weights are packed: one vector load, or a few."""


@dataclass(frozen=True)
class Tile:
    """What is in registers at once: integer sums, scaled sums and their operands."""

    rows: int
    columns: int
    """Outputs of a tile of several rows: 16 or a divisor of it.

    Float tiles, which need no second set of sums, may span several panels.
    """
    panels: int
    """Adjacent panels of 16 outputs in a tile of one row."""


YMM = Tile(6, LANES, 4)
# 32 registers of 512 bits: twice the rows for integers; for floats also two panels.
ZMM, ZMM_FLOATS = Tile(12, LANES, 4), Tile(12, 2 * LANES, 4)
# 32 registers of 128 bits: 8 integer sums and their 8 scaled sums leave half of them for operands.
# Byte products are scaled once at the end, so all 16 may be integer sums.
NEON, NEON_BYTES = Tile(8, 4, 1), Tile(8, 8, 1)
