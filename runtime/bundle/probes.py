"""The probes of a bundle: functions that measure the machine and not the model.

Their names, the units of what they give, and which of them limits the arithmetic of a kernel. The
compiler generates them (compiler/lowering/probes.py), runtime/measure/limits.py calls them.
"""

from __future__ import annotations

READ, FMA, DOT4, DOT8 = "read", "fma", "dot4", "dot8"
PROBES = {kind: f"probe_{kind}" for kind in (READ, FMA, DOT4, DOT8)}
UNITS = {READ: "read_gb_s", FMA: "fma_gflop_s", DOT4: "dot4_gop_s", DOT8: "dot8_gop_s"}
INTEGER_SCHEMES = {"w4a8": DOT4, "w7a8": DOT8, "w8a8": DOT8}

GPU_TASKS, FEW_ROUNDS, LONG_ENOUGH_S = 1024, 64, 0.5
"""Workgroups, which fill the largest GPUs; and how the rounds of one are found."""


def arithmetic(scheme: str) -> str:
    """Which limit binds the matmuls of a model that is stored in `scheme`."""
    return INTEGER_SCHEMES.get(scheme, FMA)
