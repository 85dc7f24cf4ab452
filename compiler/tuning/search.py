"""Selects the choices to measure next by predictions of gradient-boosted trees.

A rule has a few choices with a few values, 2 to 100,000 combinations, so all of them (or a sample
of POOL) can be predicted, and a schedule is created only for candidates that are built. The trees
use the values of the choices and not the loops, because nothing else differs within one kernel.
MetaSchedule's evolutionary search is not applicable: it replays a trace with other decisions, but
the shape of a register tile determines the intrinsic, which is not a decision of a trace.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

POOL = 4096
"""Combinations that are predicted per round."""
ENOUGH = 8
"""Measurements that the trees need."""
EXPLORE = 0.25
"""Fraction of a batch that is chosen at random, for exploration."""
FAILED = 4.0
"""Ratio to the default's time for a candidate that cannot be built or run."""

Choices = dict[str, int]


class Search:
    """Proposes candidates for one kernel.

    A `ratio` is a candidate's time divided by the default's, None for a failure.
    """

    def __init__(self, options: Mapping[str, Sequence[int]], seed: int = 0) -> None:
        self._names = list(options)
        self._options = [tuple(options[name]) for name in self._names]
        self._random = random.Random(seed)
        self._seed = seed
        self.measured: dict[tuple[int, ...], float | None] = {}
        self.model = "xgboost" if find_spec("xgboost") else "random"

    @property
    def size(self) -> int:
        return math.prod(map(len, self._options))

    def tell(self, choices: Mapping[str, int], ratio: float | None) -> None:
        """Record a measurement, possibly from an earlier run."""
        self.measured[self._key(choices)] = ratio

    def knows(self, choices: Mapping[str, int]) -> bool:
        return self._key(choices) in self.measured

    def propose(self, count: int) -> list[Choices]:
        """Propose at most `count` unmeasured candidates; none if all were measured."""
        pool = self._pool()
        finite = sum(ratio is not None for ratio in self.measured.values())
        if self.model == "xgboost" and finite >= ENOUGH and len(pool) > count:
            pool = self._ranked(pool, count)
        return [dict(zip(self._names, key, strict=True)) for key in pool[:count]]

    def _key(self, choices: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(choices[name] for name in self._names)

    def _pool(self) -> list[tuple[int, ...]]:
        """Unmeasured combinations in random order."""
        if self.size <= POOL:
            pool = set(itertools.product(*self._options))
        else:
            draws = range(POOL)
            pool = {tuple(self._random.choice(o) for o in self._options) for _ in draws}
            pool |= self._neighbours()
        left = sorted(pool - self.measured.keys())
        self._random.shuffle(left)
        return left

    def _neighbours(self) -> set[tuple[int, ...]]:
        """The best candidates so far with one choice changed."""
        finite = [(ratio, key) for key, ratio in self.measured.items() if ratio is not None]
        best = [key for _, key in sorted(finite)[:8]]
        return {
            (*key[:at], value, *key[at + 1 :])
            for key in best
            for at, values in enumerate(self._options)
            for value in values
        }

    def _ranked(self, pool: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
        """The best predictions first, followed by random ones (`pool` is shuffled)."""
        predictions = self._predictions(pool)
        order = np.argsort(predictions, kind="stable")
        wanted = max(1, round(count * (1 - EXPLORE)))
        best = [pool[i] for i in order[:wanted]]
        taken = set(best)
        return best + [key for key in pool if key not in taken]

    def _predictions(self, pool: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Logarithms of ratios, predicted by trees fitted to the measurements."""
        import xgboost

        known = list(self.measured)
        ratios = np.array([self.measured[key] or FAILED for key in known])
        data = xgboost.DMatrix(self._features(known), label=np.log(ratios))
        settings = {"max_depth": 4, "eta": 0.3, "nthread": 1, "seed": self._seed}
        trees = xgboost.train(settings, data, num_boost_round=60)
        return trees.predict(xgboost.DMatrix(self._features(pool)))

    def _features(self, keys: Sequence[tuple[int, ...]]) -> np.ndarray:
        return np.log2(1.0 + np.array(keys, dtype=np.float64))
