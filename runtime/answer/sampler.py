"""Selects a token id from logits: greedily, or sampled after penalty, temperature, top-k, top-p.

The filters apply in that order, as in the reference. The repetition penalty covers generated tokens
only: in the reference the prompt consists of embeddings, which have no ids to penalize.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from handglass.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Sampling:
    """Sampling options; the defaults select greedily. temp 0 disables sampling.

    Raises UsageError for a value out of range.
    """

    temp: float = 0.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    repeat_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _require("temp", self.temp, 0 <= _number(self.temp) < math.inf, "0 or more")
        _require("top_k", self.top_k, _is_int(self.top_k) and self.top_k >= 0, "0 (all) or more")
        _require("top_p", self.top_p, 0 < _number(self.top_p) <= 1, "above 0 and at most 1")
        penalty = self.repeat_penalty
        _require("repeat_penalty", penalty, 0 < _number(penalty) < math.inf, "above 0")
        seed = self.seed
        _require(
            "seed", seed, seed is None or (_is_int(seed) and seed >= 0), "an integer of 0 or more"
        )


class Constraint(Protocol):
    """What an answer may consist of, such as a grammar."""

    def allowed(self) -> np.ndarray | None:
        """(vocab_size,) bool: the tokens that may come next, at least one; None: all."""

    def take(self, token: int) -> None:
        """The token that was selected."""


class Sampler:
    """Selects tokens one after another; the same seed gives the same tokens."""

    def __init__(self, sampling: Sampling, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self._constraint = constraint
        self._random = np.random.default_rng(sampling.seed)

    def __call__(self, logits: np.ndarray, generated: Sequence[int]) -> int:
        # min and max propagate NaN and need no temporary array.
        if not (np.isfinite(logits.max()) and np.isfinite(logits.min())):
            raise DeviceError(
                "the model returned NaN or infinity; the bundle may be damaged or "
                "its arithmetic may overflow on this device"
            )
        if self._constraint is None:
            return self._selected(logits, generated)
        allowed = self._constraint.allowed()
        scores = logits if allowed is None else np.where(allowed, logits, -np.inf)
        token = self._selected(scores, generated)
        self._constraint.take(token)
        return token

    def _selected(self, logits: np.ndarray, generated: Sequence[int]) -> int:
        options = self.sampling
        if options.temp == 0 and options.repeat_penalty == 1:
            return int(logits.argmax())
        scores = penalise(logits.astype(np.float64), generated, options.repeat_penalty)
        if options.temp == 0:
            return int(scores.argmax())
        # Each filter returns indices, so that the next one processes only the remaining tokens.
        best = top_k(scores, options.top_k)
        weights = softmax(temper(scores[best], options.temp))
        nucleus = top_p(weights, options.top_p)
        return int(best[nucleus[self._draw(weights[nucleus])]])

    def _draw(self, weights: np.ndarray) -> int:
        """A random index, with a probability proportional to its weight."""
        reached = np.cumsum(weights)
        drawn = np.searchsorted(reached, self._random.random() * reached[-1], side="right")
        return min(int(drawn), len(weights) - 1)


def penalise(scores: np.ndarray, generated: Sequence[int], penalty: float) -> np.ndarray:
    """Divide positive scores of generated tokens by `penalty`, multiply negative ones by it."""
    if penalty == 1 or not len(generated):
        return scores
    seen = np.unique(np.asarray(generated))
    scores = scores.copy()
    scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return scores


def temper(scores: np.ndarray, temp: float) -> np.ndarray:
    """Scores relative to the best, over `temp`: a tiny temperature gives 0 and -inf, never inf."""
    with np.errstate(over="ignore"):
        return (scores - scores.max()) / temp


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k best scores (0: all), including ties with the k-th."""
    if k == 0 or k >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -k)[-k])


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def top_p(weights: np.ndarray, p: float) -> np.ndarray:
    """Indices of the smallest set of most likely tokens with a total of at least p; never empty."""
    if p == 1:
        return np.arange(len(weights))
    # All tokens below (1 - p)/n together have less than 1 - p, so the set never contains them.
    # Skipping them leaves little to sort.
    candidates = np.flatnonzero(weights >= (1 - p) / len(weights))
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    before = np.cumsum(weights[order]) - weights[order]
    return order[before < p]


def _require(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name}={value!r} must be {wanted}")


def _number(value: object) -> float:
    """The value as float, or NaN (for which every comparison is false) if it is not a number."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
