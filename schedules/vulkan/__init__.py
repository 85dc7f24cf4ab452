"""Schedules for Vulkan: rules in the order they are tried, the fallback last."""

from __future__ import annotations

from ..gpu import GPU_RULES
from ..rule import Rule
from . import cooperative_matrix as matrix

VULKAN_RULES: tuple[Rule, ...] = (matrix.RULE, *GPU_RULES)

__all__ = ["VULKAN_RULES"]
