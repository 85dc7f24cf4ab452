"""Tunes one kernel on the device: measure candidates, verify the best, or keep the default.

A candidate becomes a record only if its results match those of the default schedule, and if it is
faster at the most frequent lengths and nowhere slower, in samples that alternate with the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..lowering.task_arguments import Arguments, arguments_of
from ..lowering.tasks import Task, Use
from ..records.record import Measured, Times, Verified
from .builder import Builder
from .device_runner import CandidateError, DeviceRunner
from .drift import Anchor
from .limits import Limits
from .search import Search
from .trials import Trial, TrialLog

BATCH = 8
SAMPLES = 8
ROUNDS, ROUND_SAMPLES = 8, 3
"""Rounds of the final comparison, in which default and winner alternate, and samples per round."""
LEAST_GAIN = 0.02
"""Least gain of a winner at the most frequent lengths; smaller gains are noise."""
NOISE = 0.02
"""Largest loss at other lengths: the noise of medians of alternating samples."""
FINALISTS = 5
FLOOR_DB = 60.0
"""Least SNR of float32 results. Another summation order gives 120 dB, a wrong kernel 20 or less."""
ROUNDED_DB = 30.0
"""Least SNR of results that are rounded to integers or to 16 bits."""

HOPELESS = 4.0
"""A candidate slower than this multiple of the default's time is measured with one call only."""
UNSTEADY = "unsteady: the time of the default schedule changed by more than 10 % each time"
"""A temporary failure: a later run measures the candidate again. Stored in trial logs."""


@dataclass(frozen=True)
class Outcome:
    """The result of tuning a kernel."""

    task: Task
    trials: int
    winner: Mapping[str, int] | None
    """Choices of the winner; None if the default stays."""
    lengths: tuple[Measured, ...] = ()
    verified: Verified | None = None
    default_seconds: float = math.nan
    limit_fraction: float | None = None
    """Fraction of the limit that the final schedule reaches."""
    note: str = ""


class TaskError(Exception):
    """The default schedule of a kernel cannot be built or measured."""


Tell = Callable[[int, int, float, float | None], None]
"""(trials so far, total trials, best seconds so far, fraction of the limit)."""


@dataclass
class TaskTuner:
    """The state that all kernels of a run share."""

    runner: DeviceRunner
    builder: Builder
    log: TrialLog
    limits: Limits
    seed: int = 0

    def tune(self, task: Task, trials: int, tell: Tell) -> Outcome:
        """Measure up to `trials` candidates, including those of earlier runs.

        Raises TaskError if the default schedule cannot be measured.
        """
        default = self._default(task)
        arguments = self._prepare(task, task.main)
        anchor = self._anchor(task, default)
        search = Search(task.options, self.seed)
        search.tell(task.defaults, 1.0)
        for trial in self.log.of(task.hash):
            if trial.choices.keys() == task.options.keys() and trial.failure != UNSTEADY:
                search.tell(trial.choices, trial.ratio)
        wanted = min(trials, search.size - 1)
        while (done := len(search.measured) - 1) < wanted:
            best = anchor.last * min([r for r in search.measured.values() if r], default=1.0)
            tell(done, wanted, best, self.limits.fraction(task.kernel, arguments, best))
            for choices in search.propose(min(BATCH, wanted - done)):
                trial = self._measure(task, choices, anchor)
                self.log.add(task.hash, trial)
                search.tell(choices, 1.0 if trial.failure == UNSTEADY else trial.ratio)
        return self._conclude(task, default, anchor, search)

    def time_default(self, task: Task) -> float:
        """Seconds of one call with the default schedule at the most frequent lengths."""
        default = self._default(task)
        self._prepare(task, task.main)
        return self._anchor(task, default).last

    def _default(self, task: Task) -> bytes:
        built = self.builder.build(task, task.defaults)
        if built.library is None:
            raise TaskError(f"{task.name}: the default schedule cannot be built: {built.reason}")
        return built.library

    def _prepare(self, task: Task, use: Use) -> Arguments:
        arguments = arguments_of(task, use.lengths)
        self.runner.prepare(arguments)
        return arguments

    def _anchor(self, task: Task, default: bytes) -> Anchor:
        try:
            return Anchor(self.runner, default)
        except CandidateError as error:
            raise TaskError(f"{task.name}: the default schedule fails to run: {error}") from error

    def _measure(self, task: Task, choices: Mapping[str, int], anchor: Anchor) -> Trial:
        built = self.builder.build(task, choices)
        library = built.library
        if library is None:
            return Trial(choices, None, None, built.reason)
        try:
            (once,) = self.runner.seconds(library, 1, 1)  # may crash or be far too slow
            if once > HOPELESS * anchor.last:
                return Trial(choices, once / anchor.last, once)
            measured = anchor.around(lambda: self.runner.seconds(library, anchor.calls, SAMPLES))
        except CandidateError as error:
            return Trial(choices, None, None, str(error))
        if not measured.stable:
            return Trial(choices, None, None, UNSTEADY)
        return Trial(choices, measured.ratio, float(np.median(measured.seconds)))

    def _conclude(self, task: Task, default: bytes, anchor: Anchor, search: Search) -> Outcome:
        trials = [t for t in self.log.of(task.hash) if t.choices.keys() == task.options.keys()]
        finite = sorted((t for t in trials if t.ratio), key=lambda t: t.ratio or math.inf)
        notes = []
        for trial in [t for t in finite if t.ratio and t.ratio < 1 - LEAST_GAIN / 2][:FINALISTS]:
            found = self._prove(task, default, trial.choices)
            if isinstance(found, Outcome):
                return found
            notes.append(found)
        self._prepare(task, task.main)
        seconds = anchor.sample()
        fraction = self.limits.fraction(task.kernel, arguments_of(task, task.main.lengths), seconds)
        return Outcome(
            task,
            len(trials),
            None,
            default_seconds=seconds,
            limit_fraction=fraction,
            note="; ".join(dict.fromkeys(notes)),
        )

    def _prove(self, task: Task, default: bytes, choices: Mapping[str, int]) -> Outcome | str:
        """Verify a candidate: the outcome of a winner, or the reason why it is rejected."""
        library = self.builder.build(task, choices).library
        if library is None:
            return "could not be built again"
        lengths, verdicts = [], []
        for use in task.uses:
            arguments = self._prepare(task, use)
            try:
                verdicts.append(verify_results(self.runner, task, default, library))
                lengths.append(self._compare(use, default, library))
            except CandidateError as error:
                return str(error)
            slower = lengths[-1].tuned.median / lengths[-1].default.median - 1
            if slower > (NOISE if use is not task.main else -LEAST_GAIN):
                return f"{-slower:+.1%} at {_text(use)}"
            if use is task.main:
                fraction = self.limits.fraction(task.kernel, arguments, lengths[-1].tuned.median)
        main = lengths[task.uses.index(task.main)]
        return Outcome(
            task,
            len(self.log.of(task.hash)),
            choices,
            tuple(lengths),
            worst_of(verdicts),
            main.default.median,
            fraction,
        )

    def _compare(self, use: Use, default: bytes, library: bytes) -> Measured:
        """Time default and candidate alternately, so that drift affects both equally."""
        calls = self.runner.calls_for(default)
        samples: dict[bytes, list[float]] = {default: [], library: []}
        for turn in range(ROUNDS):
            for one in (default, library) if turn % 2 else (library, default):
                samples[one] += self.runner.seconds(one, calls, ROUND_SAMPLES)
        return Measured(use.lengths, times_of(samples[default]), times_of(samples[library]))


def verify_results(runner: DeviceRunner, task: Task, default: bytes, library: bytes) -> Verified:
    """Compare results with the default schedule's. Raises CandidateError if they differ."""
    verdict = []
    for seed in (1, 2):
        for difference in runner.compare(default, library, seed):
            item = task.func.params[difference.index]
            floor = ROUNDED_DB if _is_rounded(item) else FLOOR_DB
            snr = difference.snr_db
            if not difference.finite or (snr is not None and snr < floor):
                raise CandidateError(
                    f"wrong result: argument {difference.index} ({item.name}) has "
                    f"{'non-finite values' if snr is None else f'{snr:.0f} dB'}"
                )
            verdict.append(Verified(snr, difference.max_error))
    return worst_of(verdict)


def times_of(seconds: list[float]) -> Times:
    """Minimum, median and 90th percentile."""
    median, p90 = np.percentile(seconds, [50, 90])
    return Times(min(seconds), float(median), float(p90), len(seconds))


def worst_of(verdicts: list[Verified]) -> Verified:
    """The lowest SNR and the largest error; an SNR of None (equal) is best."""
    ratios = [v.snr_db for v in verdicts if v.snr_db is not None]
    return Verified(min(ratios, default=None), max(v.max_error for v in verdicts))


def _is_rounded(param) -> bool:  # type: ignore[no-untyped-def]
    return str(getattr(param, "dtype", "int64")) not in ("float32", "int32")


def _text(use: Use) -> str:
    return ", ".join(f"{name} = {value}" for name, value in use.lengths.items()) or "its length"
