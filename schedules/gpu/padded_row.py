"""What operators of one row pad for rules whose workgroups own several panels of outputs.

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
CODES, FLOATS = "int4", "floats"
"""Patterns of the stage that reads the weights: 4-bit codes, or one number each."""
