"""Tuning: extract the kernels of a model, measure candidates on the device, write records.

read the model -> extract its kernels as tasks -> time the default schedules -> measure candidates,
which MetaSchedule chooses -> verify the best of each kernel -> write a record per winner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path

import handglass
from handglass.errors import UsageError
from handglass.runtime.remote.client import DeviceClient
from handglass.targets.target import Target

from .lowering.task_arguments import arguments_of
from .lowering.tasks import Task, extract_tasks
from .records.journal import append
from .records.record import (
    DATE,
    INSTRUCTIONS,
    SECONDS,
    Device,
    Record,
    Versions,
    limit_fault,
)
from .records.store import open_store
from .tuning.builder import Builder
from .tuning.device import check_device, device_for, device_of
from .tuning.device_runner import DeviceRunner
from .tuning.instruction_runner import InstructionRunner
from .tuning.limits import Limits, measure_limits
from .tuning.progress import Board, Progress, Row
from .tuning.scheduler import search
from .tuning.task_tuner import Outcome, TaskError, TaskTuner
from .tuning.traces import RECORDS
from .tuning.trials import TrialLog, reasons
from .tuning.tuning_input import TuningInput

LEAST_SHARE = 0.003
"""Kernels with a smaller share of an answer's time are not tuned unless requested."""


@dataclass(frozen=True)
class Tuned:
    """The result of a run."""

    target: str
    device: Device
    rows: tuple[Row, ...]
    outcomes: tuple[Outcome, ...]
    records: tuple[Record, ...]
    failed: tuple[str, ...]
    """Messages about kernels without a finite measurement."""
    refused: tuple[str, ...] = ()
    """Messages about lines of the work folder's database that are not ours."""
    measure: str = SECONDS


def tune(
    tuning_input: TuningInput,
    connect: Callable[[], DeviceClient],
    *,
    trials: int,
    work_dir: Path,
    journal: Path,
    tasks: int | None = None,
    kernels: Sequence[str] = (),
    build_timeout: float = 60.0,
    cost_model: str | None = None,
    measure: str = SECONDS,
    progress: Callable[[Progress], object] = lambda _: None,
) -> Tuned:
    """Tune the kernels of `tuning_input` on a device, with `trials` in total.

    Every candidate is written to `work_dir` before the next one runs, every record to `journal` as
    soon as it is verified, so an interrupted run can be resumed. Kernels without any measurement
    are in `failed`, for the caller to report. `cost_model`: see tuning/cost_models.py.
    `measure`: SECONDS, or INSTRUCTIONS for an emulated device that counts them. Raises
    DeviceError if the device is lost, MismatchError if it cannot run code for the target,
    UsageError for an unknown kernel.
    """
    target = tuning_input.target
    kind = InstructionRunner if measure == INSTRUCTIONS else DeviceRunner
    runner = kind(connect, device_for(target))
    try:
        device = _checked(runner, target)
        everything = extract_tasks(tuning_input.mod, target, tuning_input.parts)
        found = select(everything, kernels)
        log = TrialLog(work_dir / f"trials-{target.records_key}.jsonl", _fingerprint(runner))
        with Builder(found, target, build_timeout) as builder:
            limits = _limits(runner, target, device)
            tuner = TaskTuner(runner, builder, log, limits)
            part = share_of(found, everything, limits)
            rows, failed = time_defaults(tuner, found, part, progress)
            chosen = [r for r in rows if r.share >= LEAST_SHARE or tasks is not None][:tasks]
            run = _Run(tuner, target, device, journal, progress, measure)
            folder = work_dir / f"metaschedule-{target.records_key}"
            near = [stored.record for stored in open_store(target, device, named(journal))]
            run.all(chosen, trials, folder, cost_model, near)
            return run.result(rows, failed)
    finally:
        runner.close()


def _checked(runner: DeviceRunner, target: Target) -> Device:
    """The device of a runner. Raises MismatchError if it cannot run code for the target, or does
    not count instructions that the runner asks for."""
    check_device(runner.description, target)
    device = device_of(runner.description)
    if not isinstance(runner, InstructionRunner):
        return device
    runner.check()
    # The processor of the machine below means nothing.
    return replace(device, model=f"emulated {target.cpu}")


def _limits(runner: DeviceRunner, target: Target, device: Device) -> Limits:
    """What the device can do; unknown if instructions are counted."""
    if isinstance(runner, InstructionRunner):
        return Limits({})
    return measure_limits(runner, target, device.threads)


def named(journal: Path) -> list[Path]:
    """The journal that this run appends to, if there is one already."""
    return [journal] if journal.exists() else []


def select(tasks: Sequence[Task], kernels: Sequence[str]) -> Sequence[Task]:
    """The tasks named in `kernels`, by default all. Raises UsageError for an unknown name."""
    for name in kernels:
        if not any(name == task.name for task in tasks):
            near = get_close_matches(name, [task.name for task in tasks], n=3, cutoff=0.3)
            raise UsageError(f"no kernel '{name}' to tune; nearest: {', '.join(near) or 'none'}")
    return [task for task in tasks if not kernels or task.name in kernels]


def share_of(found: Sequence[Task], everything: Sequence[Task], limits: Limits) -> float:
    """Share of the selected tasks in an answer's time, estimated by the least time of each."""

    def least(task: Task) -> float:
        seconds = limits.least(task.kernel, arguments_of(task, task.main.lengths))
        return task.main.calls * (seconds or 0.0)

    total = sum(map(least, everything))
    return sum(map(least, found)) / total if total else 1.0


def time_defaults(
    tuner: TaskTuner, tasks: Sequence[Task], part: float, progress: Callable[[Progress], object]
) -> tuple[list[Row], list[str]]:
    """Time every kernel with its default schedule. Returns rows and the messages of failed kernels.

    Rows are sorted by cost in an answer, highest first; their shares add up to `part`.
    """
    seconds: dict[str, float] = {}
    failed = []
    for number, task in enumerate(tasks, 1):
        progress(Progress(number, len(tasks), task.name, 0.0, 0, 0, 0.0, None))
        try:
            seconds[task.name] = tuner.time_default(task)
        except TaskError as error:
            failed.append(str(error))
    costs = {t.name: seconds[t.name] * t.main.calls for t in tasks if t.name in seconds}
    total = sum(costs.values()) or 1.0
    rows = [Row(t, seconds[t.name], part * costs[t.name] / total) for t in tasks if t.name in costs]
    return sorted(rows, key=lambda row: -row.share), failed


@dataclass
class _Run:
    tuner: TaskTuner
    target: Target
    device: Device
    journal: Path
    progress: Callable[[Progress], object]
    measure: str = SECONDS

    def __post_init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.records: list[Record] = []
        self.failed: list[str] = []
        self.refused: list[str] = []

    def all(
        self,
        rows: Sequence[Row],
        trials: int,
        folder: Path,
        cost_model: str | None = None,
        records: Sequence[Record] = (),
    ) -> None:
        """Search all kernels, then verify the best candidates of each, the costliest first."""
        if not rows:
            return
        board = Board(self.tuner, rows, trials, self.progress, self.measure)
        tasks = [row.task for row in rows]
        found = search(
            self.tuner,
            tasks,
            self.target,
            trials,
            folder,
            cost_model=cost_model,
            records=records,
            tell=board.tell,
        )
        self.refused += [f"{folder / RECORDS}: line {r.line}: {r.reason}" for r in found.refused]
        for row in rows:
            self._conclude(row, found.failed.get(row.task.hash))

    def result(self, rows: Sequence[Row], failed: Sequence[str]) -> Tuned:
        """What the run found; `failed` are kernels that had no search."""
        return Tuned(
            self.target.records_key,
            self.device,
            tuple(rows),
            tuple(self.outcomes),
            tuple(self.records),
            (*failed, *self.failed),
            tuple(self.refused),
            self.measure,
        )

    def _conclude(self, row: Row, failure: str | None) -> None:
        measured = self.tuner.known(row.task)
        try:
            if failure:
                raise TaskError(failure)
            outcome = plausible(self.tuner.conclude(row.task))
        except TaskError as error:
            self.failed.append(str(error))
            return
        if measured and not any(trial.ratio for trial in measured):
            self.failed.append(
                f"{row.task.name}: none of {len(measured)} candidates could be timed: "
                f"{reasons(measured)}"
            )
        self.outcomes.append(outcome)
        if outcome.winner is not None:
            record = record_of(outcome, row, self.target, self.device, self.measure)
            append(self.journal, record)
            self.records.append(record)


def plausible(outcome: Outcome) -> Outcome:
    """Remove an implausible limit fraction and note it: times are valid independently of limits."""
    fault = limit_fault(outcome.limit_fraction)
    if not fault:
        return outcome
    note = "; ".join(filter(None, [outcome.note, f"omitted: {fault}"]))
    return replace(outcome, limit_fraction=None, note=note)


def record_of(
    outcome: Outcome, row: Row, target: Target, device: Device, measure: str = SECONDS
) -> Record:
    """The record of a winner."""
    assert outcome.winner is not None and outcome.verified is not None
    return Record(
        target=target.records_key,
        task=outcome.task.hash,
        about=outcome.task.about,
        rule=outcome.task.rule.name,
        choices=dict(outcome.winner),
        lengths=outcome.lengths,
        share=round(row.share, 4),
        limit_fraction=plausible(outcome).limit_fraction,
        device=device,
        date=datetime.now(timezone.utc).strftime(DATE),
        versions=Versions(handglass.__version__, version("apache-tvm"), version("apache-tvm-ffi")),
        verified=outcome.verified,
        measure=measure,
    )


def _fingerprint(runner: DeviceRunner) -> str:
    """Identifies a device whose trials are comparable."""
    if isinstance(runner, InstructionRunner):
        return INSTRUCTIONS
    description = runner.description
    if description.devices:
        return f"{description.devices[0].name}, {description.devices[0].driver}"
    device = device_of(description)
    return f"{device.model}, {device.architecture}, {device.cores} cores, {device.threads} threads"
