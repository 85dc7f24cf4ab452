"""Tunes models for this machine and writes the records that handglass ships for its kind.

    python benchmarks/ship_records.py [--models demo seed 4.6 4.0] [--trials 400] [--threads N]
                                      [--work-dir build/records] [--kernels N]

Nothing else may run meanwhile. Weights are not needed: kernels are those of config.json. A record
is shipped if its gain of 2 % held: after all models are tuned, each winner is compared with its
default once more, in alternating samples, and these times are what the record states. The file is
schedules/records/TARGET@KIND.jsonl (docs/records.md); it replaces the one there, unless nothing
held. Interrupted, it resumes from the work folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from release_configs import CONFIGS

from handglass.cli.records import write
from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.records.journal import best, read
from handglass.compiler.records.record import Record
from handglass.compiler.records.store import shipped_file
from handglass.compiler.tune import plausible, tune
from handglass.compiler.tuning.builder import Builder
from handglass.compiler.tuning.device import device_of
from handglass.compiler.tuning.device_runner import DeviceRunner
from handglass.compiler.tuning.limits import measure_limits
from handglass.compiler.tuning.task_tuner import Outcome, TaskError, TaskTuner
from handglass.compiler.tuning.trials import TrialLog
from handglass.compiler.tuning.tuning_input import CompileOptions, TuningInput, shapes_of
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import local_device
from handglass.runtime.system.hardware import cpu_kind
from handglass.targets import find_target

DEMO = Path(__file__).parents[1] / "examples" / "demo-checkpoint" / "config.json"
MODELS = ("demo", "seed", "4.6", "4.0")
Connect = Callable[[], DeviceClient]


def input_of(model: str, context: int | None = None) -> TuningInput:
    config: dict[str, Any] = json.loads(DEMO.read_text()) if model == "demo" else CONFIGS[model]
    return shapes_of(config, CompileOptions("host", context=context))


def held(given: TuningInput, connect: Connect, records: Sequence[Record]) -> Iterator[Record]:
    """The records whose gain holds when they are proven again, with their new times."""
    tasks = {t.hash: t for t in extract_tasks(given.mod, given.target, given.parts)}
    pairs = [(record, tasks[record.task]) for record in records if record.task in tasks]
    runner = DeviceRunner(connect)
    try:
        with Builder([task for _, task in pairs], given.target) as builder:
            limits = measure_limits(runner, given.target, device_of(runner.description).threads)
            tuner = TaskTuner(runner, builder, TrialLog(Path("/nonexistent"), ""), limits)
            for record, task in pairs:
                found = _proven(tuner, task, record)
                if isinstance(found, str):
                    print(f"not shipped: {task.name}: {found}", file=sys.stderr)
                else:
                    yield renewed(record, plausible(found))
    finally:
        runner.close()


def renewed(record: Record, outcome: Outcome) -> Record:
    """The record with the times and results of another proof."""
    assert outcome.verified is not None
    times = {"lengths": outcome.lengths, "limit_fraction": outcome.limit_fraction}
    return replace(record, **times, verified=outcome.verified)  # type: ignore[arg-type]


def _proven(tuner: TaskTuner, task: Task, record: Record) -> Outcome | str:
    try:
        return tuner.prove(task, record.choices)
    except TaskError as error:
        return str(error)


def main() -> None:
    given = arguments()
    journal = given.work_dir / "found.jsonl"
    inputs = {model: input_of(model, given.context) for model in given.models}
    with local_device(given.threads) as endpoint:
        connect = partial(DeviceClient, *endpoint)
        for model, tuning_input in inputs.items():
            print(f"tuning {model}", file=sys.stderr)
            tune(
                tuning_input,
                connect,
                trials=given.trials,
                tasks=given.kernels,
                work_dir=given.work_dir / model,
                journal=journal,
            )
        found = read(journal).records if journal.exists() else []
        kept = [r for each in inputs.values() for r in held(each, connect, found)]
    print(f"{len(best(kept))} of {len(found)} records held")
    if kept:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        write(given.output, [r.text() for r in sorted(best(kept), key=lambda r: -r.share)])
        print(f"written to {given.output}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=["demo", *CONFIGS])
    parser.add_argument("--trials", type=int, default=400, help="per model")
    parser.add_argument("--kernels", type=int, help="only the N costliest of each model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--context", type=int)
    parser.add_argument("--work-dir", type=Path, default=Path("build/records"))
    parser.add_argument("--output", type=Path, default=shipped_file(find_target("host")))
    given = parser.parse_args()
    if not cpu_kind():
        parser.error("/proc/cpuinfo does not name the kind of processor that the records are for")
    return given


if __name__ == "__main__":
    main()
