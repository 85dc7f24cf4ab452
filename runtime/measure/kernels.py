"""Profiles a step kernel by kernel, with the instrumentation hook of the virtual machine.

The hook is Python and adds a few microseconds to each call; the report shows the overhead. A call
that is faster than memory allows found its data in a cache. GPU kernels are timed by the device
clock and run asynchronously: their times may add up to less or more than the step.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bundle.probes import FMA, READ
from ..bundle.report import Kernel, Sizes
from ..engine.encoders import EncoderSession
from ..engine.session import Session
from ..execution.clocks import Clock, HostClock, Moment
from .encoder_steps import steps_of
from .limits import Limits
from .sequence import parts_of
from .steps import spread

BUILTIN = ("vm.builtin.", "runtime.")
"""Prefixes of calls that are not kernels."""
MACHINE = "(virtual machine)"  # the sum of allocation, shapes and views
ALLOCATE = "vm.builtin.alloc_storage"
Progress = Callable[[str, int, int], object]
MOST_SPANS = 3000
"""Spans between two readouts: a device buffers only a few thousand unread time stamps."""


@dataclass
class Calls:
    """All calls of one kernel in one phase."""

    seconds: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    """Sums of the calls, one per step."""
    bytes: float = 0.0
    flops: float | None = 0.0


@dataclass
class Phase:
    """One kind of step, sampled several times."""

    name: str
    step: Callable[[], float]
    calls: dict[str, Calls] = field(default_factory=lambda: defaultdict(Calls))
    plain: list[float] = field(default_factory=list)
    """Seconds of the step without the hook."""
    observed: list[float] = field(default_factory=list)
    """Seconds of the step with the hook."""
    order: list[str] = field(default_factory=list)
    """The kernels that the last step called."""
    workspace: int = 0
    """Bytes that the last step allocated for intermediate results."""


class Observer:
    """The hook around every call: records its time, and its work from the arguments."""

    def __init__(self, kernels: Mapping[str, Kernel], clock: Clock) -> None:
        self._kernels = kernels
        self._clock, self._host_clock = clock, HostClock()
        self._spans: list[tuple[Calls, int, tuple[Moment, Moment]]] = []
        self._host_spans: list[tuple[Calls, int, tuple[Moment, Moment]]] = []
        self._known: dict[tuple[str, Sizes], tuple[float, float | None]] = {}
        self._start = 0
        self.calls: dict[str, Calls] = {}
        self.step = 0
        """The number of the current step, from 1."""
        self.order: list[str] = []
        """The kernels that the current step has called."""
        self.workspace = 0
        """Bytes that the current step has allocated. The compiled function reuses its storages, so
        it holds about as much at once."""

    def begin(self, calls: dict[str, Calls], step: int) -> None:
        """A new step, whose calls are added to `calls`."""
        self.calls, self.step, self.order, self.workspace = calls, step, [], 0

    def before(self, name: str, arguments: Sequence[Any]) -> None:
        is_builtin = name.startswith(BUILTIN)
        if not is_builtin:
            self._count(name, arguments)
            self.order.append(name)
        elif name == ALLOCATE:
            self.workspace += storage_bytes(arguments)
        self._start = (self._host_clock if is_builtin else self._clock).now()

    def after(self, name: str) -> None:
        if name.startswith(BUILTIN):
            span = self._start, self._host_clock.now()
            self._host_spans.append((self.calls[MACHINE], self.step, span))
        else:
            span = self._start, self._clock.now()
            self._spans.append((self.calls[name], self.step, span))
            if len(self._spans) == MOST_SPANS:
                self.settle()

    def settle(self) -> None:
        """Read the clocks and record the time of every call so far."""
        for clock, spans in ((self._host_clock, self._host_spans), (self._clock, self._spans)):
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
    """Profiles the kernels of each kind of step; `report` returns the results so far."""

    def __init__(self, session: Session | EncoderSession, kernels: Mapping[str, Kernel]) -> None:
        self.limits = Limits(session)
        self.no_limits = self.limits.missing()
        self._session, self._kernels, self._steps = session, kernels, steps_of(session)
        self._observer = Observer(kernels, session.clock())
        self._phases = [Phase(name, step) for name, step in self._steps.phases()]

    def run(
        self,
        samples: int,
        progress: Progress,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        """Interleaved; whatever ends it, the samples so far are kept."""
        run_together([self], samples, progress, between)

    def prepare(self) -> None:
        self._steps.prepare()

    def sample(self) -> None:
        """Take one sample of every phase."""
        for phase in self._phases:
            self._sample(phase)

    def report(self) -> list[dict[str, Any]]:
        """Per phase, the step times with and without the hook, and its kernels, slowest first."""
        limits = {
            kind: float(np.median(rates)) for kind, rates in self.limits.rates.items() if rates
        }
        return [
            {
                "phase": phase.name,
                "step_ms": spread([seconds * 1e3 for seconds in phase.plain]),
                "observed_ms": spread([seconds * 1e3 for seconds in phase.observed]),
                "workspace": phase.workspace,
                "kernels": rows(phase, self._kernels, limits),
                "parts": parts_of(
                    phase.order,
                    {name: calls.seconds for name, calls in phase.calls.items()},
                    len(phase.observed),
                ),
            }
            for phase in self._phases
        ]

    def _sample(self, phase: Phase) -> None:
        """Run the step once without the hook and once with it."""
        for kind in () if self.no_limits else self.limits.probes:
            self.limits.sample(kind)
        phase.plain.append(phase.step())
        self._observer.begin(phase.calls, len(phase.plain))
        with self._session.observed(self._observer.before, self._observer.after):
            phase.observed.append(phase.step())
        self._observer.settle()
        phase.order, phase.workspace = self._observer.order, self._observer.workspace


def run_together(
    works: Sequence[KernelBenchmark],
    samples: int,
    progress: Progress,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Sample several bundles in turns, in random order within each round; what ends it leaves the
    samples so far. `between` is called before every round."""
    for work in works:
        work.prepare()
    order = random.Random(0)
    for done in range(samples):
        progress("measure kernels", done, samples)
        between()
        for work in order.sample(works, len(works)):
            work.sample()
    progress("measure kernels", samples, samples)


def storage_bytes(arguments: Sequence[Any]) -> int:
    """Bytes that a call of ALLOCATE requests, from its shape and its type of elements."""
    shape = next((a for a in arguments if isinstance(a, Sequence) and not isinstance(a, str)), ())
    kinds = [a for a in arguments if hasattr(a, "bits") and hasattr(a, "lanes")]
    each = kinds[0].bits * kinds[0].lanes // 8 if kinds else 1
    return math.prod(int(size) for size in shape) * each


def rows(
    phase: Phase, kernels: Mapping[str, Kernel], limits: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The kernels of a phase, largest share first; `limits`: rates per second, may be empty."""
    steps = len(phase.observed)
    total = sum(float(np.median(calls.steps)) for calls in phase.calls.values())
    entries = [
        _row(phase.name, name, calls, kernels.get(name), steps, total, limits)
        for name, calls in phase.calls.items()
        if calls.seconds
    ]
    return sorted(entries, key=lambda row: -row["share"])


def _row(
    phase: str,
    name: str,
    calls: Calls,
    kernel: Kernel | None,
    steps: int,
    total: float,
    limits: Mapping[str, float],
) -> dict[str, Any]:
    spent = float(np.median(calls.steps))  # per step; a mean would include interruptions
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
        "operations": calls.flops / steps if is_kernel and calls.flops is not None else None,
        "gb_s": calls.bytes / steps / spent / 1e9 if is_kernel else None,
        "gflop_s": calls.flops / steps / spent / 1e9 if is_kernel and calls.flops else None,
        **(_limit(calls, kernel, spent * steps, limits) if is_kernel else NO_LIMIT),
    }


NO_LIMIT = {"limit": None, "limit_fraction": None}


def _limit(
    calls: Calls, kernel: Kernel | None, spent: float, limits: Mapping[str, float]
) -> dict[str, Any]:
    """The probe that bounds a kernel, and the least time that memory and arithmetic allow over the
    measured time; None if the probe of the unit it multiplies on was not measured."""
    unit = kernel.limit if kernel else FMA
    if unit not in limits or READ not in limits:
        return NO_LIMIT
    least = {READ: calls.bytes / limits[READ], unit: (calls.flops or 0.0) / limits[unit]}
    slowest = max(least, key=lambda probe: least[probe])
    return {"limit": slowest, "limit_fraction": least[slowest] / spent}
