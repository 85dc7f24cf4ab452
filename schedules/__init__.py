"""Kernel schedules: the rules of each kind of device, in the order they are tried.

The last rule is the fallback.
"""

from collections.abc import Mapping
from types import ModuleType

from .cpu import amx as cpu_tiles
from .cpu import attention as cpu_attention
from .cpu import bf16_attention as cpu_tile_attention
from .cpu import dot as cpu_dot
from .cpu import elementwise as cpu_elementwise
from .cpu import graph_default as cpu_graph
from .cpu import matmul as cpu_matmul
from .cpu import recurrence as cpu_recurrence
from .cpu import rows as cpu_rows
from .cpu import smmla as cpu_pairs
from .cuda import CUDA_RULES, product_probe
from .rule import Rule, Scheduled, apply_rules
from .vulkan import VULKAN_RULES

CPU_RULES: tuple[Rule, ...] = (
    cpu_matmul.RULE,
    cpu_dot.RULE,
    cpu_tiles.RULE,
    cpu_pairs.RULE,
    cpu_attention.RULE,
    cpu_tile_attention.RULE,
    cpu_recurrence.RULE,
    cpu_rows.RULE,
    cpu_elementwise.RULE,
)

GRAPH_RULES: tuple[Rule, ...] = (*CPU_RULES[:-1], cpu_graph.RULE, CPU_RULES[-1])
"""Those of imported graphs on a CPU, whose other operators have a default of their own."""

RULES_BY_KIND: Mapping[str, tuple[Rule, ...]] = {
    "cpu": CPU_RULES,
    "vulkan": VULKAN_RULES,
    "cuda": CUDA_RULES,
}
"""Kind of device -> the rules that schedule its kernels."""

PROBES_BY_KIND: Mapping[str, ModuleType] = {"cuda": product_probe}
"""Kind of device whose warps multiply matrices -> the module with a kernel that only does that."""

__all__ = [
    "CPU_RULES",
    "GRAPH_RULES",
    "PROBES_BY_KIND",
    "RULES_BY_KIND",
    "Rule",
    "Scheduled",
    "apply_rules",
]
