"""Schedules for Vulkan: rules in the order they are tried, the fallback last."""

from __future__ import annotations

from ..gpu import attention, dot, elementwise, matmul, recurrence, rows
from ..rule import Rule
from . import cooperative_matrix as matrix

VULKAN_RULES: tuple[Rule, ...] = (
    matrix.RULE,
    matmul.RULE,
    dot.RULE,
    attention.RULE,
    recurrence.RULE,
    rows.RULE,
    elementwise.RULE,
)

__all__ = ["VULKAN_RULES"]
