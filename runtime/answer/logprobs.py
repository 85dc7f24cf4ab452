"""Records the log probabilities of generated tokens, and of the likeliest alternatives to each.

They are those of the model: before temperature, filters, penalties and grammars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Sample = Callable[[np.ndarray, Sequence[int]], int]


@dataclass(frozen=True)
class TokenLogProb:
    token: int
    logprob: float  # natural logarithm
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with theirs, best first."""


class LogProbs:
    """A sampler that keeps an entry for each token that it selects."""

    def __init__(self, sample: Sample, top: int) -> None:
        self._sample = sample
        self._top = top
        self.entries: list[TokenLogProb] = []

    def __call__(self, logits: np.ndarray, generated: Sequence[int]) -> int:
        token = self._sample(logits, generated)
        self.entries.append(entry_of(logits, token, self._top))
        return token


def entry_of(logits: np.ndarray, token: int, top: int) -> TokenLogProb:
    scores = logits.astype(np.float64) - float(logits.max())
    total = float(np.log(np.exp(scores).sum()))
    best = _best(scores, min(top, len(scores)))
    likeliest = tuple((int(i), float(scores[i]) - total) for i in best)
    return TokenLogProb(token, float(scores[token]) - total, likeliest)


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` best scores, best first."""
    if not count:
        return np.empty(0, np.int64)
    found = np.argpartition(scores, -count)[-count:]
    return found[np.argsort(-scores[found], kind="stable")]
