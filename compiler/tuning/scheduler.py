"""The search: MetaSchedule's task scheduler over all kernels of an answer.

The scheduler gives the next batch to the kernel where it expects to save the most time of an
answer: seconds per call, times calls, less if the last batches found nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from handglass.targets.target import Target

from ..lowering.tasks import Task
from ..records.lines import Refused
from ..records.record import Record
from .cost_models import make_cost_model
from .database import Choices, TraceDatabase
from .measurement import (
    ChoicesBuilder,
    ChoicesRunner,
    EnoughError,
    KernelFailedError,
    Measurement,
)
from .space import context_of, decided
from .task_tuner import TaskTuner
from .transfer import proposals_of
from .trials import Trial

BATCH = 8
"""Most candidates of one kernel before the scheduler decides again."""
MOST_PROPOSALS = 4
"""Most candidates of a kernel that are measured because records, or a database, have them."""


@dataclass(frozen=True)
class Search:
    """What a search did besides measuring: `failed` by task, `refused` lines of the database."""

    failed: Mapping[str, str]
    refused: Sequence[Refused]


def search(
    tuner: TaskTuner,
    tasks: Sequence[Task],
    target: Target,
    trials: int,
    folder: Path,
    *,
    cost_model: str | ms.CostModel | None = None,
    records: Sequence[Record] = (),
    seed: int = 1,
    tell: Callable[[Task], object] = lambda task: None,
) -> Search:
    """Measure candidates of `tasks` until each search space or `trials` are used up.

    The defaults must have been timed. `trials` includes those of earlier runs, in the journal of
    `tuner`. `folder`: for MetaSchedule's database. `records`: found elsewhere; what they and the
    database hold for a kernel is measured first. `tell(task)` is called after each measurement.
    Raises DeviceError if the device or the disk is lost, or xgboost is missing.
    """
    contexts = {t.hash: context_of(t, target, seed + n) for n, t in enumerate(tasks, 1)}
    tvm_target = tvm.target.Target(target.tvm)
    model = (
        cost_model
        if isinstance(cost_model, ms.CostModel)
        else make_cost_model(cost_model, tasks, tvm_target, seed)
    )
    database = TraceDatabase(folder, contexts, tvm_target)

    def keep(task: Task, trial: Trial) -> None:
        if trial.ratio is not None:
            seconds = trial.ratio * tuner.reference[task.hash]
            database.keep(task, trial.choices, seconds)

    measurement = Measurement(tuner, tasks, keep, tell)
    for key, trial in measurement.known.items():
        keep(measurement.tasks[key[0]], trial)
    measurement.left = max(0, trials - (len(measurement.known) - len(tasks)))
    stored = database.proposals(tasks, MOST_PROPOSALS)
    for task in tasks:
        near = proposals_of(task, records, MOST_PROPOSALS)
        _propose(task, measurement, [*near, *stored[task.hash]])
    for task in tasks:
        _teach(model, task, measurement, contexts[task.hash])
    goes_on = True
    while goes_on and measurement.left:
        open_tasks = [task for task in tasks if _is_open(task, measurement)]
        goes_on = bool(open_tasks) and _schedule(
            open_tasks, contexts, measurement, database, model, folder, seed
        )
    return Search(measurement.failed, database.found.refused)


def _teach(
    model: ms.CostModel, task: Task, measurement: Measurement, context: ms.TuneContext
) -> None:
    """Tell the cost model what is known of a task: its default and its trials."""
    known = [trial for key, trial in measurement.known.items() if key[0] == task.hash]
    schedules = [decided(context.mod, trial.choices, task) for trial in known]
    results = [ms.runner.RunnerResult(*_result(measurement, task, trial)) for trial in known]
    model.update(context, [ms.MeasureCandidate(sch, []) for sch in schedules], results)


def _result(
    measurement: Measurement, task: Task, trial: Trial
) -> tuple[list[float] | None, str | None]:
    seconds = measurement.seconds(task, trial)
    return (None, trial.failure) if seconds is None else ([seconds], None)


def _propose(task: Task, measurement: Measurement, proposed: Sequence[Choices]) -> None:
    """Measure what others found fast."""
    for choices in map(task.completed, proposed):
        if choices is not None:
            measurement.measure(task, choices)


def _is_open(task: Task, measurement: Measurement) -> bool:
    """Whether a task has candidates that are not measured."""
    known = sum(key[0] == task.hash for key in measurement.known)
    return task.hash not in measurement.failed and known < task.size


def _schedule(
    tasks: Sequence[Task],
    contexts: Mapping[str, ms.TuneContext],
    measurement: Measurement,
    database: TraceDatabase,
    model: ms.CostModel,
    folder: Path,
    seed: int,
) -> bool:
    """Run MetaSchedule until each space is exhausted or the trials are used up.

    Its own limit counts proposals, known ones too, and is checked once per batch. Ours is exact:
    the builder ends the scheduler by EnoughError. Returns whether to go on without a kernel that
    failed.
    """
    batch = max(1, min(BATCH, math.ceil(measurement.left / (2 * len(tasks)))))
    limit = measurement.left + len(measurement.known) + BATCH * len(tasks)
    try:
        ms.tune.tune_tasks(
            tasks=[contexts[task.hash] for task in tasks],
            task_weights=[float(task.main.calls) for task in tasks],
            work_dir=str(folder),
            max_trials_global=limit,
            num_trials_per_iter=batch,
            builder=ChoicesBuilder(measurement),
            runner=ChoicesRunner(measurement),
            database=database.database,
            cost_model=model,
            # Not "default", which removes the folder of every artifact.
            measure_callbacks=[ms.measure_callback.UpdateCostModel()],
            task_scheduler=ms.task_scheduler.GradientBased(seed=seed),
        )
    except BaseException:
        if measurement.error is None:
            raise
    error, measurement.error = measurement.error, None
    if error is not None and not isinstance(error, (EnoughError, KernelFailedError)):
        raise error
    return isinstance(error, KernelFailedError)
