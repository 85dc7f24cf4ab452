"""Measures candidates of a kernel on the device, and verifies the best, or keeps the default.

A candidate becomes a record only if its results match those of the default schedule, and if it is
faster at the most frequent lengths and nowhere slower, in samples that alternate with the default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..lowering.task_arguments import arguments_of
from ..lowering.tasks import Task, Use
from ..records.record import Measured, Times, Verified
from .builder import Builder
from .device_runner import CandidateError, DeviceRunner
from .drift import Anchor
from .limits import Limits
from .trials import Trial, TrialLog

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


@dataclass
class TaskTuner:
    """The state that all kernels of a run share."""

    runner: DeviceRunner
    builder: Builder
    log: TrialLog
    limits: Limits

    def __post_init__(self) -> None:
        self.reference: dict[str, float] = {}
        """By task: seconds of the default schedule when it was first timed."""
        self._defaults: dict[str, bytes] = {}
        self._least: dict[str, float | None] = {}
        self._held: tuple[str, Anchor] | None = None

    def time_default(self, task: Task) -> float:
        """Seconds of one call with the default schedule at the most frequent lengths.

        Raises TaskError if it cannot be built or measured.
        """
        self.reference[task.hash] = self._hold(task).last
        return self.reference[task.hash]

    def fraction(self, task: Task, seconds: float) -> float | None:
        """Fraction of the limit that a time at the most frequent lengths reaches; None: unknown."""
        if task.hash not in self._least:
            arguments = arguments_of(task, task.main.lengths)
            self._least[task.hash] = self.limits.least(task.kernel, arguments)
        least = self._least[task.hash]
        return None if least is None else least / seconds

    def known(self, task: Task) -> list[Trial]:
        """The trials of a task, also of earlier runs, that its options offer."""
        trials = [(t, task.completed(t.choices)) for t in self.log.of(task.hash)]
        return [replace(t, choices=choices) for t, choices in trials if choices is not None]

    def measure(self, task: Task, choices: Mapping[str, int], library: bytes) -> Trial:
        """Time a candidate relative to the default schedule.

        Raises TaskError if the default schedule cannot be measured.
        """
        anchor = self._hold(task)
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

    def conclude(self, task: Task) -> Outcome:
        """Verify the best candidates: the outcome has a winner, or the default stays.

        Raises TaskError if the default schedule cannot be measured.
        """
        trials = self.known(task)
        anchor = self._hold(task)
        finite = sorted((t for t in trials if t.ratio), key=lambda t: t.ratio or math.inf)
        notes = []
        for trial in [t for t in finite if t.ratio and t.ratio < 1 - LEAST_GAIN / 2][:FINALISTS]:
            found = self.prove(task, trial.choices)
            if isinstance(found, Outcome):
                return found
            notes.append(found)
        self._prepare(task, task.main)
        seconds = anchor.sample()
        return Outcome(
            task,
            len(trials),
            None,
            default_seconds=seconds,
            limit_fraction=self.fraction(task, seconds),
            note="; ".join(dict.fromkeys(notes)),
        )

    def _default(self, task: Task) -> bytes:
        if task.hash not in self._defaults:
            built = self.builder.build(task, task.defaults)
            if built.library is None:
                raise TaskError(
                    f"{task.name}: the default schedule cannot be built: {built.reason}"
                )
            self._defaults[task.hash] = built.library
        return self._defaults[task.hash]

    def _prepare(self, task: Task, use: Use) -> None:
        self.runner.prepare(arguments_of(task, use.lengths))
        self._held = None

    def _hold(self, task: Task) -> Anchor:
        """The anchor of a task, whose arguments the device then holds."""
        if self._held is None or self._held[0] != task.hash:
            default = self._default(task)
            self._prepare(task, task.main)
            try:
                self._held = task.hash, Anchor(self.runner, default)
            except CandidateError as error:
                raise TaskError(
                    f"{task.name}: the default schedule fails to run: {error}"
                ) from error
        return self._held[1]

    def prove(self, task: Task, choices: Mapping[str, int]) -> Outcome | str:
        """Verify a candidate: the outcome of a winner, or the reason why it is rejected.

        Raises TaskError if the default schedule cannot be built.
        """
        default = self._default(task)
        library = self.builder.build(task, choices).library
        if library is None:
            return "could not be built again"
        lengths, verdicts = [], []
        for use in task.uses:
            self._prepare(task, use)
            try:
                verdicts.append(verify_results(self.runner, task, default, library))
                lengths.append(self._compare(use, default, library))
            except CandidateError as error:
                return str(error)
            slower = lengths[-1].tuned.median / lengths[-1].default.median - 1
            if slower > (NOISE if use is not task.main else -LEAST_GAIN):
                return f"{-slower:+.1%} at {_text(use)}"
        main = lengths[task.uses.index(task.main)]
        return Outcome(
            task,
            len(self.known(task)),
            choices,
            tuple(lengths),
            worst_of(verdicts),
            main.default.median,
            self.fraction(task, main.tuned.median),
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
