"""Cost models of the search: which candidates are likely to be fast.

`features`: MetaSchedule's XGBModel over features of the scheduled kernel, shared by all kernels.
`choices`: trees over the values of the named choices, per kernel. `random`: no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from handglass.errors import DeviceError

from ..lowering.tasks import Task
from .features import RuleFeatures
from .space import choices_in, hash_in

MODELS = ("features", "choices", "random")
DEFAULT_MODEL = "choices"
"""Ahead of the others after 16 trials in benchmarks/search_quality.py (docs/tuning.md)."""
ENOUGH = 8
"""Measurements that a model needs before it predicts."""
FAILED = 4.0
"""Times of the slowest that a candidate counts as, if it cannot be built or run."""


def check_installed(name: str | None) -> None:
    """Raise DeviceError if the named model needs xgboost and it is not installed."""
    if name not in (None, "random") and find_spec("xgboost") is None:
        raise DeviceError(
            f"--cost-model {name} needs xgboost: pip install 'handglass[tune]', or use "
            "--cost-model random"
        )


def make_cost_model(
    name: str | None, tasks: Sequence[Task], target: tvm.target.Target, seed: int
) -> ms.CostModel:
    """The cost model of this name; None: the default, or `random` without xgboost.

    Raises DeviceError if the named model needs xgboost and it is not installed.
    """
    check_installed(name)
    if name is None:
        name = DEFAULT_MODEL if find_spec("xgboost") else "random"
    if name == "random":
        return ms.cost_model.RandomModel(seed=seed)
    if name == "choices":
        return TreesOverChoices(seed)
    return ms.cost_model.XGBModel(
        extractor=RuleFeatures(tasks, target),
        num_warmup_samples=ENOUGH,
        num_tuning_cores=1,
        verbose_eval=0,
    )


class _TreesOverChoices(ms.cost_model.PyCostModel):
    """Gradient-boosted trees from the values of a kernel's choices to the logarithm of its time."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.random = seed, np.random.default_rng(seed)
        self.known: dict[str, list[tuple[np.ndarray, float]]] = {}
        """By task: values, and seconds or infinity."""
        self.trees: dict[str, object] = {}

    def update(
        self,
        context: ms.TuneContext,
        candidates: Sequence[ms.MeasureCandidate],
        results: Sequence[ms.runner.RunnerResult],
    ) -> None:
        if not candidates:
            return
        task = hash_in(context.mod)
        known = self.known.setdefault(task, [])
        for candidate, result in zip(candidates, results, strict=True):
            known.append((_values(candidate), _seconds(result)))
        if sum(np.isfinite(seconds) for _, seconds in known) >= ENOUGH:
            self.trees[task] = self._fit(known)

    def _fit(self, known: Sequence[tuple[np.ndarray, float]]) -> object:
        import xgboost

        seconds = np.array([found for _, found in known])
        slowest = seconds[np.isfinite(seconds)].max()
        label = -np.log(np.where(np.isfinite(seconds), seconds, FAILED * slowest))
        data = xgboost.DMatrix(np.array([values for values, _ in known]), label=label)
        settings = {"max_depth": 4, "eta": 0.3, "nthread": 1, "seed": self.seed}
        return xgboost.train(settings, data, num_boost_round=60)

    def predict(
        self, context: ms.TuneContext, candidates: Sequence[ms.MeasureCandidate]
    ) -> np.ndarray:
        """A score per candidate, higher for faster, as float64."""
        trees = self.trees.get(hash_in(context.mod))
        if trees is None:
            return self.random.random(len(candidates))
        import xgboost

        data = xgboost.DMatrix(np.array([_values(candidate) for candidate in candidates]))
        found: np.ndarray = np.exp(trees.predict(data).astype("float64"))  # type: ignore[attr-defined]
        return found / found.max()

    def load(self, path: str) -> None:
        raise NotImplementedError("the journal of the work folder is what a run resumes from")

    def save(self, path: str) -> None:
        raise NotImplementedError("the journal of the work folder is what a run resumes from")


TreesOverChoices = derived_object(_TreesOverChoices)


def _values(candidate: ms.MeasureCandidate) -> np.ndarray:
    return np.log2(1.0 + np.array(list(choices_in(candidate.sch.mod).values()), dtype="float64"))


def _seconds(result: ms.runner.RunnerResult) -> float:
    return float(result.run_secs[0]) if result.run_secs else np.inf
