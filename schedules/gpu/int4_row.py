"""What the operator of one row times 4-bit weights pads, for rules that multiply matrices.

Columns and inputs are whole workgroups of the largest kernel, which reads no padding.
"""

from __future__ import annotations

from ..isa.integer_isa import GROUP
from ..isa.register_tiles import LANES

PANELS = 8
"""Panels of a workgroup."""
COLUMNS = PANELS * LANES
PARTS = (1, 2, 4, 8, 16, 32)
"""Numbers of warps that may share the inputs."""
INPUTS = PARTS[-1] * GROUP
CODES = "int4"
"""Pattern of the stage that reads the weights."""
