"""The interface of a weight storage scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from tvm import te

from handglass.schedules.isa.integer_isa import Codes
from handglass.schedules.select import (
    Selection,
    Units,
    attends_in_tiles,
    scores_in_integers,
    select,
)

from ..ops.matmul import Dequantize

Arrays = Mapping[str, np.ndarray]

# Against the weights as stored, only the order of additions differs, and in the language model the
# float16 keys and values: measured 107 to 130 dB, or 78 to 91 dB with a float16 cache. Injected
# faults (positions missing or swapped, heads interleaved, no causal mask, a wrong scale, a missing
# branch) gave -2 to 37 dB. 4-bit storage alone leaves less than 37 dB, which can hide such faults.
FLOAT_ARITHMETIC_DB = 55.0
# Both sides round activations to integers. A value near the middle of two codes can differ by a
# whole step, and these differences accumulate over layers: measured 46 to 52 dB on the demo model,
# 37 dB on random weights of full size. Below 37 dB, only gross faults are distinguishable from
# rounding.
INTEGER_ARITHMETIC_DB = 30.0
# Both sides round activations to bfloat16, with the same effect but finer steps.
BFLOAT16_ARITHMETIC_DB = 45.0


class Scheme(Protocol):
    """Storage of one weight matrix (out_features n, in_features k)."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str:
        """The weight kind in the kernel table (schedules/select.py)."""

    @property
    def units(self) -> Units:
        """The arithmetic units that multiply the weights; they determine the layout."""

    @property
    def codes(self) -> Codes | None:
        """Integer codes of weights and activations; None if both are floats."""

    def on(self, units: Units) -> Scheme:
        """The same scheme, laid out for a machine with `units`."""

    @property
    def cache_dtype(self) -> str:
        """Default dtype of the KV cache for this scheme."""

    @property
    def floor_db(self) -> float:
        """Lowest signal-to-noise ratio of a stage against the float32 weights, for `verify`."""

    @property
    def arithmetic_db(self) -> float:
        """Lowest signal-to-noise ratio against the weights as stored, for `verify`."""

    def depth(self, k: int) -> int:
        """k rounded up to the depth of the packing; the padding is zero."""

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name of each part -> (shape, dtype) of its array."""

    def pack(self, rows: np.ndarray) -> Arrays:
        """float32 (n, k) -> the arrays described by `shapes`."""

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        """The inverse of `pack`: the float32 rows (n, k) as stored, for `verify`."""

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        """Parts in the order of `shapes` -> the float32 value at (panel, k, lane)."""


def has_tile_attention(scheme: Scheme) -> str:
    """The part of TILE_ATTENTION by which attention of many queries, beside weights of the scheme,
    has operands of 16 bits; else ""."""
    return attends_in_tiles(scheme.units, scheme.weights)


def attention_to_all(scheme: Scheme) -> str:
    """How attention of many queries to all positions multiplies, beside weights of the scheme: a
    part of TILE_ATTENTION, integer codes for its scores, or "" for float32."""
    return has_tile_attention(scheme) or scores_in_integers(scheme.units, scheme.weights)


def selection_of(scheme: Scheme) -> Selection:
    """The layout of the scheme's weights and the kernels that multiply them."""
    return select(scheme.units, scheme.weights)
