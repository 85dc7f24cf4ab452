"""Where a step spends its time, kernel by kernel: the machine's own hook around every call.

The hook is Python: it adds a few microseconds to each call, which the report tells. A call that is
faster than memory allows found its data in a cache. A GPU's kernels are timed by its own clock and
run on while the host goes on: the times of a step may add up to less than the step, or to more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bundle.probes import FMA, READ
from ..bundle.report import Kernel, Sizes
from ..engine.session import Session
from ..execution.clocks import Clock, HostClock, Moment
from .limits import Limits
from .steps import Steps, spread

BUILTIN = "vm.builtin."
MACHINE = "(virtual machine)"  # allocation, shapes and views, all together
MOST_SPANS = 3000
"""A GPU keeps a few thousand moments that nobody has read yet."""


@dataclass
class Calls:
    """All calls of one kernel in one phase."""

    seconds: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    """Their sums, one per step."""
    bytes: float = 0.0
    flops: float | None = 0.0


@dataclass
class Phase:
    """One kind of step, taken several times."""

    name: str
    step: Callable[[], float]
    calls: dict[str, Calls] = field(default_factory=lambda: defaultdict(Calls))
    plain: list[float] = field(default_factory=list)
    """Seconds of the step without the hook."""
    observed: list[float] = field(default_factory=list)
    """With it."""


class Observer:
    """What the session calls around every call: keeps the time, and the work by the arguments."""

    def __init__(self, kernels: Mapping[str, Kernel], clock: Clock) -> None:
        self._kernels = kernels
        self._clock, self._own_clock = clock, HostClock()
        self._spans: list[tuple[Calls, int, tuple[Moment, Moment]]] = []
        self._own_spans: list[tuple[Calls, int, tuple[Moment, Moment]]] = []
        self._known: dict[tuple[str, Sizes], tuple[float, float | None]] = {}
        self._start = 0
        self.calls: dict[str, Calls] = {}
        self.step = 0
        """Of which number, from 1 on, the calls now are."""

    def before(self, name: str, arguments: Sequence[Any]) -> None:
        own = name.startswith(BUILTIN)
        if not own:
            self._count(name, arguments)
        self._start = (self._own_clock if own else self._clock).now()

    def after(self, name: str) -> None:
        if name.startswith(BUILTIN):
            span = self._start, self._own_clock.now()
            self._own_spans.append((self.calls[MACHINE], self.step, span))
        else:
            span = self._start, self._clock.now()
            self._spans.append((self.calls[name], self.step, span))
            if len(self._spans) == MOST_SPANS:
                self.settle()

    def settle(self) -> None:
        """Note the time of every call so far."""
        for clock, spans in ((self._own_clock, self._own_spans), (self._clock, self._spans)):
            seconds = clock.seconds([span for _, _, span in spans])
            for (calls, step, _), spent in zip(spans, seconds, strict=True):
                calls.steps.extend([0.0] * (step - len(calls.steps)))
                calls.seconds.append(spent)
                calls.steps[step - 1] += spent
            spans.clear()

    def _count(self, name: str, arguments: Sequence[Any]) -> None:
        sizes: Sizes = tuple(a if isinstance(a, int) else tuple(a.shape) for a in arguments)
        if (name, sizes) not in self._known:
            self._known[name, sizes] = self._work(name, sizes, arguments)
        nbytes, flops = self._known[name, sizes]
        calls = self.calls[name]
        calls.bytes += nbytes
        calls.flops = None if flops is None or calls.flops is None else calls.flops + flops

    def _work(
        self, name: str, sizes: Sizes, arguments: Sequence[Any]
    ) -> tuple[float, float | None]:
        items = [0 if isinstance(a, int) else np.dtype(str(a.dtype)).itemsize for a in arguments]
        kernel = self._kernels.get(name, Kernel(name, "", 0, (), None))
        return kernel.bytes(sizes, items), kernel.flops(sizes)


class KernelBenchmark:
    """The kernels of three kinds of steps; `report` tells what there is so far."""

    def __init__(self, session: Session, kernels: Mapping[str, Kernel]) -> None:
        self.limits = Limits(session)
        self.no_limits = self.limits.missing()
        self._session, self._kernels, self._steps = session, kernels, Steps(session)
        self._observer = Observer(kernels, session.clock())
        self._phases = list(self._all_phases())

    def run(self, samples: int, progress: Callable[[str, int, int], object]) -> None:
        """Interleaved; whatever ends it, the samples so far are kept."""
        self._steps.prepare()
        for done in range(samples):
            progress("measure kernels", done, samples)
            for phase in self._phases:
                self._sample(phase)
        progress("measure kernels", samples, samples)

    def report(self) -> list[dict[str, Any]]:
        """Per phase what the hook cost, and its kernels, the most expensive first."""
        limits = {
            kind: float(np.median(rates)) for kind, rates in self.limits.rates.items() if rates
        }
        return [
            {
                "phase": phase.name,
                "step_ms": spread([seconds * 1e3 for seconds in phase.plain]),
                "observed_ms": spread([seconds * 1e3 for seconds in phase.observed]),
                "kernels": rows(phase, self._kernels, limits),
            }
            for phase in self._phases
        ]

    def _all_phases(self) -> Iterator[Phase]:
        context, steps = self._session.context, self._steps
        s, pos = min(64, context), min(512, context - 1)
        ids = steps.ids(s)
        yield Phase("encode", steps.encode)
        yield Phase(f"prefill {s}", lambda: steps.prefill(ids))
        yield Phase(f"decode@{pos}", lambda: steps.decode(pos, 1))

    def _sample(self, phase: Phase) -> None:
        """One more step, without the hook and with it."""
        for kind in () if self.no_limits else self.limits.probes:
            self.limits.sample(kind)
        phase.plain.append(phase.step())
        self._observer.calls, self._observer.step = phase.calls, len(phase.plain)
        with self._session.observed(self._observer.before, self._observer.after):
            phase.observed.append(phase.step())
        self._observer.settle()


def rows(
    phase: Phase, kernels: Mapping[str, Kernel], limits: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Largest share first; `limits` are rates per second, empty where there are none."""
    steps = len(phase.observed)
    total = sum(float(np.median(calls.steps)) for calls in phase.calls.values())
    found = [
        _row(phase.name, name, calls, kernels.get(name), steps, total, limits)
        for name, calls in phase.calls.items()
        if calls.seconds
    ]
    return sorted(found, key=lambda row: -row["share"])


def _row(
    phase: str,
    name: str,
    calls: Calls,
    kernel: Kernel | None,
    steps: int,
    total: float,
    limits: Mapping[str, float],
) -> dict[str, Any]:
    spent = float(np.median(calls.steps))  # in one step: a mean would believe every interruption
    median, p90 = np.percentile(calls.seconds, [50, 90]) * 1e6
    is_kernel = name != MACHINE
    return {
        "phase": phase,
        "kernel": name,
        "rule": kernel.rule if kernel else "",
        "calls": len(calls.seconds) / steps,
        "total_ms": spent * 1e3,
        "share": spent / total,
        "min_us": min(calls.seconds) * 1e6,
        "median_us": float(median),
        "p90_us": float(p90),
        "bytes": calls.bytes / steps if is_kernel else None,
        "gb_s": calls.bytes / steps / spent / 1e9 if is_kernel else None,
        "gflop_s": calls.flops / steps / spent / 1e9 if is_kernel and calls.flops else None,
        "limit_fraction": _fraction(calls, kernel, spent * steps, limits) if is_kernel else None,
    }


def _fraction(
    calls: Calls, kernel: Kernel | None, spent: float, limits: Mapping[str, float]
) -> float | None:
    """The least time that memory and arithmetic allow, over the time it took; None where the unit
    that it multiplies in was not measured."""
    rate = limits.get(kernel.limit if kernel else FMA)
    if rate is None:
        return None
    least = calls.bytes / limits[READ]
    return max(least, (calls.flops or 0.0) / rate) / spent
