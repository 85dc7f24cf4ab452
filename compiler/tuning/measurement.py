"""Builder and runner of MetaSchedule over our builder, device protocol, drift control and journal.

A candidate is in the journal and in the database as soon as it is measured, and none is measured
twice: MetaSchedule may propose what earlier runs measured, and is answered from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from ..lowering.tasks import Task
from .space import choices_in, hash_in
from .task_tuner import UNSTEADY, TaskError, TaskTuner
from .trials import Trial

Key = tuple[str, tuple[int, ...]]
"""Hash of a task and the values of its choices."""
Callback = TypeVar("Callback", bound=Callable[..., Any])


class EnoughError(Exception):
    """The trials are used up; ends MetaSchedule's scheduler."""


class KernelFailedError(Exception):
    """The default of a kernel failed; ends the scheduler, which is started again without it."""


def key_of(task: Task, choices: Mapping[str, int]) -> Key:
    return task.hash, tuple(choices[name] for name in task.options)


class Measurement:
    """Measures candidates until `left` of them are measured.

    `keep` stores a trial, `tell` reports that there is one more. Raises EnoughError when asked for
    more. `error` is what ended a callback: C++ converts an exception that passes through it, and
    the caller of the scheduler raises the original.
    """

    def __init__(
        self,
        tuner: TaskTuner,
        tasks: Sequence[Task],
        keep: Callable[[Task, Trial], object],
        tell: Callable[[Task], object],
    ) -> None:
        self.tuner, self._keep, self._tell = tuner, keep, tell
        self.left = 0
        self.tasks = {task.hash: task for task in tasks}
        self.known: dict[Key, Trial] = {}
        for task in tasks:
            for trial in tuner.known(task):
                if trial.failure != UNSTEADY:
                    self.known[key_of(task, trial.choices)] = trial
            self.known[key_of(task, task.defaults)] = Trial(task.defaults, 1.0, None)
        self.failed: dict[str, str] = {}
        """By task: why its default schedule could not be measured."""
        self.error: BaseException | None = None
        self._built: dict[str, tuple[Task, Mapping[str, int], bytes | None]] = {}

    def measure(self, task: Task, choices: Mapping[str, int]) -> None:
        """Build and measure one candidate, unless it is known."""
        path, reason = self.build(task, choices)
        if not reason:
            self.run(path)

    def build(self, task: Task, choices: Mapping[str, int]) -> tuple[str, str]:
        """(a name for `run`, "") or ("", reason)."""
        known = self.known.get(key_of(task, choices))
        library = None
        if reason := self.failed.get(task.hash) or (known.failure if known else ""):
            return ("", reason) if reason != UNSTEADY else self._named(task, choices, None)
        if known is None:
            if self.left <= 0:
                return "", "not built: the trials are used up"
            self.left -= 1
            built = self.tuner.builder.build(task, choices)
            if built.library is None:
                self._add(task, Trial(choices, None, None, built.reason))
                return "", built.reason
            library = built.library
        return self._named(task, choices, library)

    def _named(
        self, task: Task, choices: Mapping[str, int], library: bytes | None
    ) -> tuple[str, str]:
        name = f"{task.hash}-{'-'.join(map(str, key_of(task, choices)[1]))}"
        self._built[name] = task, choices, library
        return name, ""

    def run(self, name: str) -> tuple[float | None, str]:
        """(seconds of a candidate, "") or (None, reason)."""
        task, choices, library = self._built.pop(name)
        if library is not None and (failure := self._run(task, choices, library)):
            self.left += 1
            return None, failure
        trial = self.known[key_of(task, choices)]
        seconds = self.seconds(task, trial)
        return seconds, trial.failure if seconds is None else ""

    def _run(self, task: Task, choices: Mapping[str, int], library: bytes) -> str:
        """Measure a candidate; returns why its default schedule could not be measured, or ""."""
        if task.hash not in self.failed:
            try:
                self._add(task, self.tuner.measure(task, choices, library))
            except TaskError as error:
                self.failed[task.hash] = str(error)
        return self.failed.get(task.hash, "")

    def seconds(self, task: Task, trial: Trial) -> float | None:
        """Seconds as if the default still took what it took at first; None for a failure.

        An unsteady trial counts as the default, as long as nobody knows better.
        """
        if trial.failure and trial.failure != UNSTEADY:
            return None
        return (trial.ratio or 1.0) * self.tuner.reference[task.hash]

    def _add(self, task: Task, trial: Trial) -> None:
        self.tuner.log.add(task.hash, trial)
        self.known[key_of(task, trial.choices)] = trial
        self._keep(task, trial)
        self._tell(task)


def remembered(method: Callback) -> Callback:
    """Keeps what a callback raises in `measurement.error`. A callback after that raises it again:
    C++ may have dropped it."""

    @wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        measurement: Measurement = self.measurement
        try:
            if measurement.error is not None:
                raise measurement.error
            return method(self, *arguments)
        except BaseException as error:
            measurement.error = error
            raise

    return cast(Callback, call)


class _ChoicesBuilder(ms.builder.PyBuilder):
    """Builds the rule's result for the decisions that a candidate carries."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.measurement = measurement

    @remembered
    def build(
        self, build_inputs: Sequence[ms.builder.BuilderInput]
    ) -> list[ms.builder.BuilderResult]:
        if self.measurement.left <= 0:
            raise EnoughError
        if any(hash_in(given.mod) in self.measurement.failed for given in build_inputs):
            raise KernelFailedError
        return [self._one(given) for given in build_inputs]

    def _one(self, given: ms.builder.BuilderInput) -> ms.builder.BuilderResult:
        task = self.measurement.tasks[hash_in(given.mod)]
        name, reason = self.measurement.build(task, choices_in(given.mod))
        return ms.builder.BuilderResult(name or None, reason or None)


class _ChoicesRunner(ms.runner.PyRunner):
    """Runs what the builder built, on the device."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.measurement = measurement

    @remembered
    def run(self, runner_inputs: Sequence[ms.runner.RunnerInput]) -> list[ms.runner.RunnerFuture]:
        return [self._one(str(given.artifact_path)) for given in runner_inputs]

    def _one(self, name: str) -> ms.runner.RunnerFuture:
        seconds, reason = self.measurement.run(name)
        return ms.runner.LocalRunnerFuture(None if seconds is None else [seconds], reason or None)


ChoicesBuilder = derived_object(_ChoicesBuilder)
ChoicesRunner = derived_object(_ChoicesRunner)
