"""Tolerances of compiled code against a reference, one per kind of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.compiler.schemes.scheme import Scheme, has_tile_attention, selection_of


@dataclass(frozen=True)
class Tolerance:
    """Bounds for the error of one tensor."""

    largest: float
    """Upper bound of the largest error over the largest value."""
    snr_db: float = 0.0
    """Lower bound of the signal-to-noise ratio in dB, over all values."""

    def check(self, actual: np.ndarray, truth: np.ndarray) -> None:
        assert actual.shape == truth.shape
        largest, ratio = errors(actual, truth)
        assert largest < self.largest, f"largest error {largest}, {ratio:.1f} dB"
        assert ratio > self.snr_db, f"{ratio:.1f} dB, largest error {largest}"


def errors(actual: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The largest error over the largest value, and the signal-to-noise ratio in dB."""
    error = actual.astype(np.float64) - truth
    largest = float(np.abs(error).max() / np.abs(truth).max())
    noise = float(np.square(error).sum())
    signal = float(np.square(truth.astype(np.float64)).sum())
    return largest, 10 * float(np.log10(signal / noise)) if noise else float("inf")


KERNEL = Tolerance(1e-6)
"""One matmul against the same rounded rows: integers, bfloat16."""
UNPACKED_KERNEL = Tolerance(2**-8)
"""The same if the kernel itself rounds the weights to bfloat16."""
TILE_ATTENTION = Tolerance(1e-2, 50.0)
"""Attention in bfloat16 tiles against the same rounded queries, keys and values."""
CODED_ATTENTION = Tolerance(2e-3, 60.0)
"""Attention with integer scores, against the same codes of queries and keys."""
WORD_SCORES = Tolerance(2e-3, 60.0)
"""Attention whose scores are products of 16-bit codes, against the unrounded queries and keys."""
BYTE_SCORES = Tolerance(5e-2, 36.0)
"""The same with 8-bit codes."""
HALF_ATTENTION = Tolerance(2e-3, 55.0)
"""Attention on a GPU with float16 operands, against the unrounded ones."""
EXACT = Tolerance(1e-6)
"""Rows of an embedding table times a constant."""

# Stages of models with two or three layers, against a reference that does not round rows. The worst
# stages measured, in the order below: 1e-6 and 120 dB, 1.04e-4 and 78.6 dB, 5e-3 and 48 dB, 2.2e-2
# and 35 dB, 1.4e-2 and 38 dB. One bit less in the rows costs 6 dB.
FLOAT32 = Tolerance(1e-4, 80.0)
FLOAT16_CACHE = Tolerance(2e-4, 74.0)
"""A key or value between two float16 numbers may be rounded to either."""
BFLOAT16_ROWS = Tolerance(1e-2, 45.0)
"""Many rows, or the operands of their attention, are rounded to bfloat16: AMX, AVX-512 BF16."""
INT8_ROWS = Tolerance(4e-2, 32.0)
"""Rows are quantized with one scale each: w7a8, w8a8."""
INT8_GROUPS = Tolerance(3e-2, 35.0)
"""Rows are quantized with one scale per 32 neighbours: w4a8."""


def of_rows(scheme: Scheme) -> Tolerance:
    """The tolerance of a stage with weights in `scheme`, on the units it is packed for."""
    if scheme.codes is not None:
        return INT8_GROUPS if scheme.codes.bits == 4 else INT8_ROWS
    rounds = selection_of(scheme).many_rows.activations == "bfloat16"
    return BFLOAT16_ROWS if rounds or has_tile_attention(scheme) else FLOAT32


def weaker(one: Tolerance, other: Tolerance) -> Tolerance:
    """The tolerance of a stage that uses both kinds of arithmetic."""
    return Tolerance(max(one.largest, other.largest), min(one.snr_db, other.snr_db))
