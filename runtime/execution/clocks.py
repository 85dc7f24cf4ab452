"""Clocks for kernel times: the host clock, or a device clock for asynchronous kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Moment = int
"""A point in time; comparable only with moments of the same clock."""


class Clock(Protocol):
    def now(self) -> Moment: ...

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        """Seconds between the two moments of each span; invalidates all moments so far."""
        ...


class HostClock:
    def now(self) -> Moment:
        return time.perf_counter_ns()

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        return [(end - start) / 1e9 for start, end in spans]


class DeviceClock:
    """Records time stamps in the device's command stream, so nothing waits and each kernel is timed
    separately."""

    def __init__(self, number: int, stamp: Any, stamps: Any) -> None:
        self._number, self._stamp, self._stamps = number, stamp, stamps

    def now(self) -> Moment:
        return int(self._stamp(self._number))

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        times = [int(nanoseconds) for nanoseconds in self._stamps(self._number)]
        return [(times[end - 1] - times[start - 1]) / 1e9 for start, end in spans]


class WaitingClock(HostClock):
    """The host clock after a wait, for a device without time stamps; times include submission."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self._wait = wait

    def now(self) -> Moment:
        self._wait()
        return time.perf_counter_ns()
