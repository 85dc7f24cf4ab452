"""The probes of a bundle: functions that measure the machine instead of the model.

This module defines their names, the units of their results, and which probe bounds the arithmetic
of a kernel. compiler/lowering/probes.py generates them; runtime/measure/limits.py calls them.
"""

from __future__ import annotations

from collections.abc import Collection

READ, FMA, DOT4, DOT8 = "read", "fma", "dot4", "dot8"
PROBES = {kind: f"probe_{kind}" for kind in (READ, FMA, DOT4, DOT8)}
TILE_INT8, TILE_BF16 = "tile_int8", "tile_bf16"
TILE_PROBES = {kind: f"probe_{kind}" for kind in (TILE_INT8, TILE_BF16)}
"""Additional probes of bundles whose prefill matmuls run in tile registers."""
UNITS = {READ: "read_gb_s", FMA: "fma_gflop_s", DOT4: "dot4_gop_s", DOT8: "dot8_gop_s"}
TILE_UNITS = {TILE_INT8: "tile_int8_gop_s", TILE_BF16: "tile_bf16_gflop_s"}
INTEGER_SCHEMES = {"w4a8": DOT4, "w7a8": DOT8, "w8a8": DOT8}
TILE_SCHEMES = {"bf16": TILE_BF16, "w4a8": TILE_BF16, "w7a8": TILE_INT8, "w8a8": TILE_INT8}
PAIR_FEATURE, PAIR_SCHEMES = "i8mm", {"w4a8": DOT8}
"""With SMMLA many rows of 4 bits use it, as bytes do; DOT4 measures SDOT, which one row uses."""
TILE_FEATURES = frozenset({"amx_tile", "amx_int8", "amx_bf16", "avx512_vnni"})
"""A target with all of these multiplies many rows in tile registers."""

GPU_TASKS, FEW_ROUNDS, LONG_ENOUGH_S = 1024, 64, 0.5
"""Workgroups of a GPU probe, enough to fill the largest GPUs; the initial number of rounds; and the
kernel time in seconds at which the search for a number of rounds stops."""


def arithmetic(scheme: str, features: Collection[str] = ()) -> str:
    """The probe whose rate bounds matmuls of many rows, for weights stored in `scheme` and code
    compiled for a machine with `features`."""
    tiles = TILE_SCHEMES if set(features) >= TILE_FEATURES else {}
    vectors = {**INTEGER_SCHEMES, **(PAIR_SCHEMES if PAIR_FEATURE in features else {})}
    return tiles.get(scheme) or vectors.get(scheme, FMA)
