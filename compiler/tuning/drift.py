"""Measurement on a machine whose speed drifts.

The default schedule is timed repeatedly. The time of a candidate is relative to the default just
before and after it, and is measured again if the default changed in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .device_runner import DeviceRunner

TOLERANCE = 0.10
"""Largest relative change of the default around a measurement."""
REPEATS = 3
PAUSE = 0.25
"""Seconds to wait for a disturbance to pass, doubled each time."""
ANCHOR_SAMPLES = 3


@dataclass(frozen=True)
class Reading:
    """Seconds of a candidate, and of the default around it."""

    seconds: list[float]
    anchor: float
    stable: bool
    """Whether the default changed by at most TOLERANCE."""

    @property
    def ratio(self) -> float:
        """The candidate's time divided by the default's."""
        return float(np.median(self.seconds)) / self.anchor


class Anchor:
    """Times the default schedule of one kernel as the reference for candidates."""

    def __init__(
        self, runner: DeviceRunner, library: bytes, sleep: Callable[[float], object] = time.sleep
    ):
        self.library = library
        self.calls = runner.calls_for(library)
        self._runner, self._sleep = runner, sleep
        self.repeated = 0
        """Number of discarded measurements."""
        self.last = self.sample()

    def sample(self) -> float:
        """Measure the current seconds of one call."""
        samples = self._runner.seconds(self.library, self.calls, ANCHOR_SAMPLES)
        self.last = float(np.median(samples))
        return self.last

    def around(self, measure: Callable[[], list[float]]) -> Reading:
        """Call `measure`, and repeat it up to REPEATS times while the default changes around it."""
        for attempt in range(REPEATS + 1):
            before = self.last if not attempt else self.sample()
            seconds = measure()
            after = self.sample()
            stable = abs(after / before - 1) <= TOLERANCE
            if stable or attempt == REPEATS:
                break
            self.repeated += 1
            self._sleep(PAUSE * 2**attempt)
        return Reading(seconds, (before + after) / 2, stable)
