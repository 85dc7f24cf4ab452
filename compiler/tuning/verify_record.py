"""Verifies a record on the device: compares the kernel with its choices to the default schedule.

Both run at every length that the kernel has in an answer and must give the same results. Speed is
not measured: the record states it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from handglass.runtime.remote.client import DeviceClient
from handglass.targets.target import Target

from ..lowering.task_arguments import arguments_of
from ..lowering.tasks import Task
from ..records.record import Record
from .builder import Builder
from .device import check_device, device_for
from .device_runner import CandidateError, DeviceRunner
from .importing import Verdict, Verify
from .task_tuner import verify_results, worst_of

BUILD_SECONDS = 60.0


@contextmanager
def record_verifier(
    connect: Callable[[], DeviceClient], target: Target, tasks: Sequence[Task]
) -> Iterator[Verify]:
    """The `verify` callback of `import_records`.

    Raises DeviceError or MismatchError if no device runs code for the target.
    """
    runner = DeviceRunner(connect, device_for(target))
    try:
        check_device(runner.description, target)
        with Builder(tasks, target, BUILD_SECONDS) as builder:
            yield lambda record, task: _verify(runner, builder, record, task)
    finally:
        runner.close()


def _verify(runner: DeviceRunner, builder: Builder, record: Record, task: Task) -> Verdict:
    default = builder.build(task, task.defaults)
    tuned = builder.build(task, record.choices)
    if default.library is None or tuned.library is None:
        return Verdict(False, f"cannot be built: {default.reason or tuned.reason}")
    found = []
    for use in task.uses:
        runner.prepare(arguments_of(task, use.lengths))
        try:
            found.append(verify_results(runner, task, default.library, tuned.library))
        except CandidateError as error:
            return Verdict(False, str(error))
    ratio = worst_of(found).snr_db
    words = "equal results" if ratio is None else f"results within {ratio:.0f} dB"
    return Verdict(True, f"{words}, lengths compared: {len(found)}")
