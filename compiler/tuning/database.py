"""MetaSchedule's JSON database of a run, in the work folder beside the journal of trials.

The journal is what a run resumes from: it names the device and is on the disk before the next
candidate runs. The database is written anew from it, so that TVM never opens a file that somebody
else may have written; what such a file holds is read as data, and proposes candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from handglass.errors import DeviceError

from ..lowering.tasks import Task
from .space import decided
from .traces import RECORDS, WORKLOADS, Contents, read_database

Choices = Mapping[str, int]


class TraceDatabase:
    """`database`: the JSONDatabase for MetaSchedule. `found`: what the folder held before.

    Raises DeviceError if the folder cannot be written, InputError if a file in it is not a regular
    file.
    """

    def __init__(
        self, folder: Path, contexts: Mapping[str, ms.TuneContext], target: tvm.target.Target
    ) -> None:
        self._target = target
        self.found: Contents = read_database(folder)
        _remove(folder)
        self.database = ms.database.JSONDatabase(work_dir=str(folder))
        self._modules = {key: context.mod for key, context in contexts.items()}
        self._workloads = {
            key: self.database.commit_workload(mod) for key, mod in self._modules.items()
        }

    def keep(self, task: Task, choices: Choices, seconds: float) -> None:
        """Write the time of a candidate."""
        trace = decided(self._modules[task.hash], choices, task).trace
        workload = self._workloads[task.hash]
        record = ms.database.TuningRecord(trace, workload, [seconds], self._target, [])
        self.database.commit_tuning_record(record)

    def proposals(self, tasks: Sequence[Task], most: int) -> dict[str, list[Choices]]:
        """By task: the choices that the folder held for it, the fastest first, at most `most`."""
        lines = {text: number for number, text in enumerate(self.found.workloads)}
        proposed: dict[str, list[Choices]] = {}
        for task in tasks:
            line = lines.get(str(self._workloads[task.hash].as_json()[0]))
            stored = [r for r in self.found.records if r.workload == line]
            stored.sort(key=lambda record: record.seconds)
            distinct = {tuple(sorted(r.choices.items())): r.choices for r in stored}
            proposed[task.hash] = list(distinct.values())[:most]
        return proposed


def _remove(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WORKLOADS, RECORDS):
            (folder / name).unlink(missing_ok=True)
            (folder / name).touch()  # TVM reports no failure to write
    except OSError as error:
        raise DeviceError(f"{folder}: cannot be written: {error.strerror or error}") from error
