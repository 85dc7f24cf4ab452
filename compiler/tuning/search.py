"""Which choices to measure next: gradient-boosted trees guess what was not measured yet.

Our rules ask for a few choices of a few values, 2 to 100,000 combinations, so every one of them (or
a sample of POOL) can be guessed at, and no schedule is made for a candidate that is not built. The
trees see the values of the choices and not the loops: within one kernel nothing else differs.
MetaSchedule's own evolution replays a trace with other decisions, which ours do not allow: the
shape of a register tile decides which intrinsic is put in, and that is no decision of a trace.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

POOL = 4096
"""Combinations that are guessed at in one round."""
ENOUGH = 8
"""Measurements that the trees need."""
EXPLORE = 0.25
"""Of a batch, taken at random: the trees only know what they have seen."""
FAILED = 4.0
"""What a candidate that cannot be built or run counts as, in times of the default's."""

Choices = dict[str, int]


class Search:
    """Candidates for one kernel. `ratio` is time over the default's, None for a failure."""

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
        """What was found out; also of an earlier run."""
        self.measured[self._key(choices)] = ratio

    def knows(self, choices: Mapping[str, int]) -> bool:
        return self._key(choices) in self.measured

    def propose(self, count: int) -> list[Choices]:
        """At most `count` that were not measured; none when all were."""
        pool = self._pool()
        finite = sum(ratio is not None for ratio in self.measured.values())
        if self.model == "xgboost" and finite >= ENOUGH and len(pool) > count:
            pool = self._ranked(pool, count)
        return [dict(zip(self._names, key, strict=True)) for key in pool[:count]]

    def _key(self, choices: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(choices[name] for name in self._names)

    def _pool(self) -> list[tuple[int, ...]]:
        """Not measured yet, in random order."""
        if self.size <= POOL:
            found = set(itertools.product(*self._options))
        else:
            draws = range(POOL)
            found = {tuple(self._random.choice(o) for o in self._options) for _ in draws}
            found |= self._neighbours()
        left = sorted(found - self.measured.keys())
        self._random.shuffle(left)
        return left

    def _neighbours(self) -> set[tuple[int, ...]]:
        """The best so far with one choice made otherwise."""
        finite = [(ratio, key) for key, ratio in self.measured.items() if ratio is not None]
        best = [key for _, key in sorted(finite)[:8]]
        return {
            (*key[:at], value, *key[at + 1 :])
            for key in best
            for at, values in enumerate(self._options)
            for value in values
        }

    def _ranked(self, pool: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
        """The most promising first, after them a part at random (`pool` is shuffled)."""
        guesses = self._guesses(pool)
        order = np.argsort(guesses, kind="stable")
        wanted = max(1, round(count * (1 - EXPLORE)))
        best = [pool[i] for i in order[:wanted]]
        taken = set(best)
        return best + [key for key in pool if key not in taken]

    def _guesses(self, pool: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Logarithms of ratios, as trees have them that were fitted to what was measured."""
        import xgboost

        known = list(self.measured)
        ratios = np.array([self.measured[key] or FAILED for key in known])
        data = xgboost.DMatrix(self._features(known), label=np.log(ratios))
        told = {"max_depth": 4, "eta": 0.3, "nthread": 1, "seed": self._seed}
        trees = xgboost.train(told, data, num_boost_round=60)
        return trees.predict(xgboost.DMatrix(self._features(pool)))

    def _features(self, keys: Sequence[tuple[int, ...]]) -> np.ndarray:
        return np.log2(1.0 + np.array(keys, dtype=np.float64))
