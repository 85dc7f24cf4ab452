"""The progress of a run: the kernel being measured, and the table of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..lowering.tasks import Task
from ..records.record import SECONDS
from .task_tuner import TaskTuner


@dataclass(frozen=True)
class Standing:
    """A line of the table of tasks. `weight`: calls in an answer."""

    name: str
    weight: int
    share: float
    trials: int
    best_us: float
    limit_fraction: float | None


@dataclass(frozen=True)
class Progress:
    """The progress of a run; `trials` is 0 while the default schedules are timed."""

    number: int
    tasks: int
    name: str
    share: float
    trial: int
    """Trials of all kernels so far, out of `trials`."""
    trials: int
    best_us: float
    limit_fraction: float | None
    table: tuple[Standing, ...] = ()
    measure: str = SECONDS
    """With INSTRUCTIONS, `best_us` is in thousands of them."""

    @property
    def left(self) -> int:
        """Remaining trials of all kernels."""
        return self.trials - self.trial


@dataclass(frozen=True)
class Row:
    """A kernel that an answer calls: seconds per call with the default schedule, and its share."""

    task: Task
    seconds: float
    share: float


@dataclass
class Board:
    """Reports the table of tasks after each measurement."""

    tuner: TaskTuner
    rows: Sequence[Row]
    trials: int
    progress: Callable[[Progress], object]
    measure: str = SECONDS

    def tell(self, task: Task) -> None:
        table = tuple(map(self._standing, self.rows))
        number = next(n for n, row in enumerate(self.rows) if row.task is task)
        row, now = self.rows[number], table[number]
        done = min(self.trials, sum(standing.trials for standing in table))
        best, fraction = now.best_us, now.limit_fraction
        at = number + 1, len(self.rows), task.name, row.share, done, self.trials
        self.progress(Progress(*at, best, fraction, table, self.measure))

    def _standing(self, row: Row) -> Standing:
        trials = self.tuner.known(row.task)
        best = row.seconds * min([t.ratio for t in trials if t.ratio], default=1.0)
        best = min(best, row.seconds)
        fraction = self.tuner.fraction(row.task, best)
        calls = row.task.main.calls
        return Standing(row.task.name, calls, row.share, len(trials), best * 1e6, fraction)
