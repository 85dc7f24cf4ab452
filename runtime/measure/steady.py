"""Waits until the machine has a steady speed, and notes how it drifts during a measurement.

A cold device speeds up and then throttles; a busy one changes from second to second. The reference
is a probe of the bundle, float32 multiply-adds in registers, which no memory or other code affects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..bundle.probes import FMA, UNITS
from ..devices.driver import clock_of
from ..system.clock_rate import ClockState, read_clock
from .limits import Limits
from .steps import spread

WINDOW = 5
"""The speed is steady when so many references in a row differ by at most TOLERANCE."""
TOLERANCE = 0.03
DRIFTED = 0.05
"""A measurement whose references differ by more is called unsteady: a frequency step is more."""
SECONDS_EACH = 0.2
"""A reference is the best of the probes in this time: one that another process has interrupted
says nothing about the clock."""


@dataclass
class Steadiness:
    """The references of one measurement; `reference` returns a rate per second."""

    reference: Callable[[], float]
    read: Callable[[], ClockState] = read_clock
    clock: Callable[[], float] = time.monotonic
    waited: list[float] = field(default_factory=list)
    waited_s: float = 0.0
    became_steady: bool | None = None
    """None: not waited for."""
    rates: list[float] = field(default_factory=list)
    """Before, between and after."""
    states: list[ClockState] = field(default_factory=list)

    def settle(self, limit_s: float) -> None:
        """Wait until the speed is steady, at most about `limit_s` seconds; 0: do not wait."""
        start = self.clock()
        while limit_s and not self.became_steady and self.clock() - start < limit_s:
            self.waited.append(self.reference())
            self.became_steady = is_steady(self.waited)
        self.waited_s = self.clock() - start
        self.note()

    def note(self) -> None:
        """Take a reference, and the state of the clock."""
        self.rates.append(self.reference())
        self.states.append(self.read())

    @property
    def drift(self) -> float | None:
        """The range of the references over their median."""
        if not self.rates:
            return None
        return (max(self.rates) - min(self.rates)) / median(self.rates)

    def report(self) -> dict[str, Any]:
        between = [rate / 1e9 for rate in self.rates[1:-1]]
        return {
            "became_steady": self.became_steady,
            "waited_s": self.waited_s,
            "reference": UNITS[FMA],
            "before": self.rates[0] / 1e9 if self.rates else None,
            "between": spread(between),
            "after": self.rates[-1] / 1e9 if len(self.rates) > 1 else None,
            "drift": self.drift,
            "drifted": self.drift is not None and self.drift > DRIFTED,
            **self._clock(),
        }

    def _clock(self) -> dict[str, Any]:
        found = [state.mhz for state in self.states if state.mhz is not None]
        counts = [state.throttled for state in self.states if state.throttled is not None]
        limited = [state.limited for state in self.states if state.limited is not None]
        degrees = [state.celsius for state in self.states if state.celsius is not None]
        return {
            "clock_mhz": spread(found),
            "throttled": counts[-1] - counts[0] if counts else None,
            "limited": any(limited) if limited else None,
            "hottest_celsius": max(degrees, default=None),
        }


def steadiness(limits: Limits) -> Steadiness | None:
    """With the probe of a bundle; None for an old one without probes."""
    if limits.missing():
        return None
    device = limits.device
    read = read_clock if device is None else lambda: clock_of(device)
    return Steadiness(lambda: best_rate(lambda: limits.measure(FMA)), read)


def best_rate(probe: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> float:
    """The highest rate in SECONDS_EACH, at least of one probe."""
    end, best = clock() + SECONDS_EACH, probe()
    while clock() < end:
        best = max(best, probe())
    return best


def is_steady(rates: list[float]) -> bool:
    """Whether the last WINDOW rates differ by at most TOLERANCE of their median."""
    last = rates[-WINDOW:]
    return len(last) == WINDOW and max(last) - min(last) <= TOLERANCE * median(last)
