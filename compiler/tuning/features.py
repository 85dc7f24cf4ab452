"""Features of the scheduled kernel, for MetaSchedule's cost model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from handglass.schedules.rule import replay

from ..lowering.tasks import Task
from .space import choices_in, hash_in

WIDTH = 164
"""Features of a store, as PerStoreFeature makes them."""


class _RuleFeatures(ms.feature_extractor.PyFeatureExtractor):
    """PerStoreFeature of what the rule makes of the decisions: (stores, 164) float64 each.

    Cached by decisions: the search asks for the same candidate many times, and a rule with its
    features takes 15 to 100 ms.
    """

    def __init__(self, tasks: Sequence[Task], target: tvm.target.Target) -> None:
        super().__init__()
        self.tasks, self.target = {task.hash: task for task in tasks}, target
        self.stores = ms.feature_extractor.PerStoreFeature()
        self.known: dict[tuple, np.ndarray] = {}

    def extract_from(
        self, context: ms.TuneContext, candidates: Sequence[ms.MeasureCandidate]
    ) -> list[tvm.runtime.Tensor]:
        return [tvm.runtime.tensor(self._of(context, c.sch.mod)) for c in candidates]

    def _of(self, context: ms.TuneContext, mod: tvm.IRModule) -> np.ndarray:
        task, choices = self.tasks[hash_in(mod)], choices_in(mod)
        key = (task.hash, *choices.values())
        if key not in self.known:
            self.known[key] = self._extract(context, task, choices)
        return self.known[key]

    def _extract(self, context: ms.TuneContext, task: Task, choices: dict[str, int]) -> np.ndarray:
        try:
            sch = replay(task.func, task.rule, self.target, choices)
            candidate = ms.MeasureCandidate(sch, [])
            found = self.stores.extract_from(context, [candidate])[0].numpy()
        except Exception:  # noqa: BLE001  the builder reports what does not schedule
            return np.zeros((1, WIDTH))
        # Symbolic lengths give infinities, which xgboost refuses.
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


RuleFeatures = derived_object(_RuleFeatures)
