"""How far compiled code may be from a reference, by the kind of arithmetic that it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.compiler.schemes.scheme import Scheme, selection_of


@dataclass(frozen=True)
class Tolerance:
    """Of values that come together: one tensor, one row of logits."""

    largest: float
    """The largest error, as a part of the largest value."""
    snr_db: float = 0.0
    """Least signal to noise, which no single value decides."""

    def check(self, actual: np.ndarray, truth: np.ndarray) -> None:
        assert actual.shape == truth.shape
        largest, ratio = errors(actual, truth)
        assert largest < self.largest, f"largest error {largest}, {ratio:.1f} dB"
        assert ratio > self.snr_db, f"{ratio:.1f} dB, largest error {largest}"


def errors(actual: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The largest error over the largest value, and signal to noise in dB."""
    error = actual.astype(np.float64) - truth
    largest = float(np.abs(error).max() / np.abs(truth).max())
    noise = float(np.square(error).sum())
    signal = float(np.square(truth.astype(np.float64)).sum())
    return largest, 10 * float(np.log10(signal / noise)) if noise else float("inf")


KERNEL = Tolerance(1e-6)
"""One product, its rows as they are multiplied: integers, bfloat16."""
UNPACKED_KERNEL = Tolerance(2**-8)
"""The same where weights are rounded to bfloat16 inside."""
EXACT = Tolerance(1e-6)
"""Rows of a table, times one number."""

# Stages of models of two and three layers, against a reference that rounds no rows. Measured, the
# worst of all stages: 5e-5 and 86 dB (by the cache in float16; 1e-6 and 120 dB without), 5e-3 and
# 48 dB, 2.2e-2 and 35 dB, 1.4e-2 and 38 dB. Rows with one bit less would cost 6 dB more.
FLOAT32 = Tolerance(1e-4, 80.0)
BFLOAT16_ROWS = Tolerance(1e-2, 45.0)
"""Many rows are rounded to bfloat16: AMX."""
INT8_ROWS = Tolerance(4e-2, 32.0)
"""Rows are rounded to integers, each with a scale of its own: w7a8, w8a8."""
INT8_GROUPS = Tolerance(3e-2, 35.0)
"""... each 32 neighbours of a row with one: w4a8."""


def of_rows(scheme: Scheme) -> Tolerance:
    """Of a stage whose matrices are stored so, for the machine that `scheme` is laid out for."""
    if scheme.codes is not None:
        return INT8_GROUPS if scheme.codes.bits == 4 else INT8_ROWS
    rows = selection_of(scheme).many_rows.activations
    return BFLOAT16_ROWS if rows == "bfloat16" else FLOAT32


def weaker(one: Tolerance, other: Tolerance) -> Tolerance:
    """Where both take part."""
    return Tolerance(max(one.largest, other.largest), min(one.snr_db, other.snr_db))
