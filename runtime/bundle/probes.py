"""The probes of a bundle: functions that measure the machine and not the model.

Their names, the units of what they give, and which of them limits the arithmetic of a kernel. The
compiler generates them (compiler/lowering/probes.py), runtime/measure/limits.py calls them.
"""

from __future__ import annotations

from collections.abc import Collection

READ, FMA, DOT4, DOT8 = "read", "fma", "dot4", "dot8"
PROBES = {kind: f"probe_{kind}" for kind in (READ, FMA, DOT4, DOT8)}
TILE_INT8, TILE_BF16 = "tile_int8", "tile_bf16"
TILE_PROBES = {kind: f"probe_{kind}" for kind in (TILE_INT8, TILE_BF16)}
"""Of bundles whose many rows are multiplied in tiles, beside the others."""
UNITS = {READ: "read_gb_s", FMA: "fma_gflop_s", DOT4: "dot4_gop_s", DOT8: "dot8_gop_s"}
TILE_UNITS = {TILE_INT8: "tile_int8_gop_s", TILE_BF16: "tile_bf16_gflop_s"}
INTEGER_SCHEMES = {"w4a8": DOT4, "w7a8": DOT8, "w8a8": DOT8}
TILE_SCHEMES = {"bf16": TILE_BF16, "w4a8": TILE_BF16, "w7a8": TILE_INT8, "w8a8": TILE_INT8}
TILE_FEATURES = frozenset({"amx_tile", "amx_int8", "amx_bf16", "avx512_vnni"})
"""A target that has them all multiplies many rows in tiles."""

GPU_TASKS, FEW_ROUNDS, LONG_ENOUGH_S = 1024, 64, 0.5
"""Workgroups, which fill the largest GPUs; and how the rounds of one are found."""


def arithmetic(scheme: str, features: Collection[str] = ()) -> str:
    """Which limit binds the matmuls of many rows of a model that is stored in `scheme`, compiled
    for a machine with `features`."""
    tiles = TILE_SCHEMES if set(features) >= TILE_FEATURES else {}
    return tiles.get(scheme) or INTEGER_SCHEMES.get(scheme, FMA)
