"""When something happened: by the host's clock, or by a device's, which runs behind the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Moment = int
"""Means something only to the clock that it is from."""


class Clock(Protocol):
    def now(self) -> Moment: ...

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        """Between two moments each; all moments so far are forgotten."""
        ...


class HostClock:
    def now(self) -> Moment:
        return time.perf_counter_ns()

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        return [(end - start) / 1e9 for start, end in spans]


class DeviceClock:
    """Moments are recorded among the kernels: nothing waits, and a kernel's time is its own."""

    def __init__(self, number: int, stamp: Any, stamps: Any) -> None:
        self._number, self._stamp, self._stamps = number, stamp, stamps

    def now(self) -> Moment:
        return int(self._stamp(self._number))

    def seconds(self, spans: Sequence[tuple[Moment, Moment]]) -> list[float]:
        at = [int(nanoseconds) for nanoseconds in self._stamps(self._number)]
        return [(at[end - 1] - at[start - 1]) / 1e9 for start, end in spans]


class WaitingClock(HostClock):
    """For a device without stamps: the host's clock once it is done, a submission included."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self._wait = wait

    def now(self) -> Moment:
        self._wait()
        return time.perf_counter_ns()
