"""Imports records from others, after verifying each on the device.

A line must parse, its rule must offer the choices for a kernel of the given model, and the
resulting kernel must give the results of the default schedule. Other records are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm

from handglass.errors import HandglassError, InputError
from handglass.schedules.rule import replay
from handglass.targets.target import Target

from ..lowering.tasks import Task
from ..records.apply import reason_of
from ..records.journal import append, read
from ..records.record import Record


@dataclass(frozen=True)
class Verdict:
    """Whether a record's results match those of the default schedule."""

    ok: bool
    words: str
    """How close they are, or the fault."""


Verify = Callable[[Record, Task], Verdict]
"""Runs the kernel on the device with the record's choices.

Raises DeviceError if no device is available; a crash or timeout of the candidate is a Verdict.
"""


@dataclass(frozen=True)
class Outcome:
    """The result for a line or a record of `file`."""

    file: Path
    line: int | None
    """Line number of an invalid record, else None."""
    record: Record | None
    kept: bool
    words: str


def import_records(
    files: Sequence[Path],
    target: Target,
    tasks: Sequence[Task],
    verify: Verify,
    journal: Path,
) -> Iterator[Outcome]:
    """Append the records that pass verification to `journal`; `tasks` are the model's kernels.

    Raises InputError for a file that cannot be read, DeviceError from `verify` and `append`.
    """
    by_hash = {task.hash: task for task in tasks}
    present = {r.id for r in read(journal).records} if journal.exists() else set()
    for file in files:
        records, refused = read(file)
        for line in refused:
            yield Outcome(file, line.line, None, False, line.reason)
        for record in records:
            verdict = _judge(record, target, by_hash, present, verify)
            if verdict.ok:
                append(journal, record)
                present.add(record.id)
            yield Outcome(file, None, record, verdict.ok, verdict.words)


def _judge(
    record: Record, target: Target, tasks: Mapping[str, Task], present: set[str], verify: Verify
) -> Verdict:
    if record.id in present:
        return Verdict(False, "already present")
    try:
        task = _admit(record, target, tasks)
    except HandglassError as error:
        return Verdict(False, str(error))
    return verify(record, task)


def _admit(record: Record, target: Target, tasks: Mapping[str, Task]) -> Task:
    """The kernel of a record. Raises InputError if there is none or the choices do not fit it."""
    if record.target != target.records_key:
        raise InputError(f"is for {record.target}, not for {target.records_key}")
    task = tasks.get(record.task)
    if task is None:
        raise InputError("is for no kernel of this model, so it cannot be verified")
    try:
        replay(task.func, task.rule, tvm.target.Target(target.tvm), record.choices)
    except Exception as error:  # TVM may raise anything
        raise InputError(f"does not fit the kernel: {reason_of(error)}") from error
    return task
