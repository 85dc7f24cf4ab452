"""Time on a machine that gets slower and faster while we measure.

The default schedule is timed again and again. A candidate counts as a ratio to the default just
before and after it, and is measured again where the default itself moved in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .device_runner import DeviceRunner

TOLERANCE = 0.10
"""How far the default may move around a measurement."""
REPEATS = 3
PAUSE = 0.25
"""Seconds to let a disturbance pass, doubled each time."""
ANCHOR_SAMPLES = 3


@dataclass(frozen=True)
class Reading:
    """Seconds of a candidate, and of the default around it."""

    seconds: list[float]
    anchor: float
    steady: bool
    """Whether the default held still."""

    @property
    def ratio(self) -> float:
        """Of the candidate's time to the default's."""
        return float(np.median(self.seconds)) / self.anchor


class Anchor:
    """The default schedule of one kernel, with the arguments that the runner holds."""

    def __init__(
        self, runner: DeviceRunner, library: bytes, sleep: Callable[[float], object] = time.sleep
    ):
        self.library = library
        self.calls = runner.calls_for(library)
        self._runner, self._sleep = runner, sleep
        self.repeated = 0
        """Measurements that were thrown away."""
        self.last = self.sample()

    def sample(self) -> float:
        """Seconds of one call now."""
        found = self._runner.seconds(self.library, self.calls, ANCHOR_SAMPLES)
        self.last = float(np.median(found))
        return self.last

    def around(self, measure: Callable[[], list[float]]) -> Reading:
        """`measure`, once more where the default moved; at most REPEATS times more."""
        for attempt in range(REPEATS + 1):
            before = self.last if not attempt else self.sample()
            seconds = measure()
            after = self.sample()
            steady = abs(after / before - 1) <= TOLERANCE
            if steady or attempt == REPEATS:
                break
            self.repeated += 1
            self._sleep(PAUSE * 2**attempt)
        return Reading(seconds, (before + after) / 2, steady)
