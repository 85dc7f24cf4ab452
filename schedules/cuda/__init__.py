"""Schedules for NVIDIA GPUs: rules in the order they are tried, the fallback last."""

from __future__ import annotations

from ..gpu import GPU_RULES
from ..rule import Rule
from . import tensor_core

CUDA_RULES: tuple[Rule, ...] = (tensor_core.RULE, *GPU_RULES)

__all__ = ["CUDA_RULES"]
