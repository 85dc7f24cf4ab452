"""Schedules for NVIDIA GPUs: rules in the order they are tried, the fallback last."""

from __future__ import annotations

from ..gpu import GPU_RULES
from ..rule import Rule
from . import (
    dot_row,
    flash_attention,
    float_row,
    norm_rows,
    one_row,
    product_probe,
    tensor_core,
)

CUDA_RULES: tuple[Rule, ...] = (
    one_row.RULE,
    float_row.RULE,
    dot_row.RULE,
    tensor_core.RULE,
    norm_rows.RULE,
    flash_attention.RULE,
    *GPU_RULES,
)

__all__ = ["CUDA_RULES", "product_probe"]
