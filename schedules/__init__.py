"""How loops run: rules in the order in which they are asked, the fallback last."""

from . import (
    cpu_attention,
    cpu_dot,
    cpu_elementwise,
    cpu_matmul,
    cpu_pairs,
    cpu_rows,
    cpu_tiles,
)
from .rule import Rule, Scheduled, apply_rules

CPU_RULES: tuple[Rule, ...] = (
    cpu_matmul.RULE,
    cpu_dot.RULE,
    cpu_tiles.RULE,
    cpu_pairs.RULE,
    cpu_attention.RULE,
    cpu_rows.RULE,
    cpu_elementwise.RULE,
)

__all__ = ["CPU_RULES", "Rule", "Scheduled", "apply_rules"]
