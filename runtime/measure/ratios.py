"""Compares two series of costs from interleaved rounds: the ratio of their medians, and how far
chance alone may have moved it.

The two costs of a round are taken one right after the other, so what slows a round down slows both.
The interval comes from a bootstrap over rounds: rounds are drawn with repetition, always both costs
together, and the ratio of the medians is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.99
"""Of one interval. A comparison has about nine rows, so that one in ten comparisons of a bundle
with itself has a row whose interval excludes 1."""
DRAWS = 4000
FEWEST = 6
"""With fewer rounds the extremes of the draws are too often on one side of 1."""
FASTER, SLOWER, NOISE, TOO_FEW = "better", "worse", "within the noise", "too few rounds"


@dataclass(frozen=True)
class Ratio:
    """Cost of the other over ours: above 1 ours is better."""

    ratio: float
    low: float
    high: float
    """Ends of the interval."""
    rounds: int

    @property
    def verdict(self) -> str:
        if self.rounds < FEWEST:
            return TOO_FEW
        if self.low > 1:
            return FASTER
        return SLOWER if self.high < 1 else NOISE


def compare(ours: Sequence[float], other: Sequence[float]) -> Ratio | None:
    """Compare positive costs, (rounds,) each; None without a round that has both, all finite.

    A round is a pair at the same index; what only one series has, after an interruption, is left
    out. The draws are seeded: the same costs give the same interval.
    """
    rounds = min(len(ours), len(other))
    pairs = np.array([ours[:rounds], other[:rounds]], np.float64)  # (2, rounds)
    if not rounds or not (np.isfinite(pairs) & (pairs > 0)).all():
        return None
    ratio = _ratios(pairs[:, None])[0]
    drawn = np.random.default_rng(0).integers(0, rounds, (DRAWS, rounds))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_ratios(pairs[:, drawn]), [tail, 100 - tail])
    return Ratio(float(ratio), float(low), float(high), rounds)


def _ratios(pairs: np.ndarray) -> np.ndarray:
    """(2, draws, rounds) -> (draws,)."""
    ours, other = np.median(pairs, axis=-1)
    return np.asarray(other / ours)
