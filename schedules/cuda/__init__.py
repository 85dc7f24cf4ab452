"""Schedules for NVIDIA GPUs: rules in the order they are tried, the fallback last."""

from __future__ import annotations

from ..gpu import GPU_RULES
from ..rule import Rule
from . import dot_row, norm_rows, one_row, tensor_core

CUDA_RULES: tuple[Rule, ...] = (
    one_row.RULE,
    dot_row.RULE,
    tensor_core.RULE,
    norm_rows.RULE,
    *GPU_RULES,
)

__all__ = ["CUDA_RULES"]
