"""Schedules for GPUs, independent of the language that kernels are compiled to."""

from ..rule import Rule
from . import attention, dot, elementwise, matmul, recurrence, rows

GPU_RULES: tuple[Rule, ...] = (
    matmul.RULE,
    dot.RULE,
    attention.RULE,
    recurrence.RULE,
    rows.RULE,
    elementwise.RULE,
)
"""The rules that any GPU has, in the order they are tried; the fallback last."""

__all__ = ["GPU_RULES"]
