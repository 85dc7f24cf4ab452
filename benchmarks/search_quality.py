"""Compares the cost models of the tuner over tables of measured candidates.

    python benchmarks/search_quality.py measure TABLE.json [--threads 1]
    python benchmarks/search_quality.py compare TABLE.json [--seeds 10]

`measure` times every candidate of a space of some 400 for two kernels of the demo model on this
machine: the least of short samples, over the least of the default's just before, which other
programs disturb little. It resumes. `compare` searches each table with each model and prints the
best time of n trials, without the default, over the best of the table: the mean over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from handglass.compiler.lowering.task_arguments import arguments_of
from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.tuning.builder import Builder, Built
from handglass.compiler.tuning.cost_models import MODELS, make_cost_model
from handglass.compiler.tuning.device_runner import CandidateError, DeviceRunner
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.scheduler import search
from handglass.compiler.tuning.task_tuner import TaskTuner
from handglass.compiler.tuning.trials import Trial, TrialLog
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import local_device
from handglass.targets import find_target

DEMO = Path(__file__).parents[1] / "examples" / "demo-checkpoint"
KERNELS = {
    "causal_attention": ("scores.rows", "scores.unroll", "mix.columns", "mix.rows"),
    "causal_attention1": (
        "scores.rows",
        "scores.unroll",
        "mix.columns",
        "mix.rows",
        "mix.unroll",
        "edge.rows",
    ),
}
"""The choices that are searched; the others keep their defaults."""
SAMPLE_S, SAMPLES = 5e-4, 40
"""A sample is far shorter than the time slice of another program."""
AFTER = (8, 16, 24, 32, 48, 64)


def tasks_of_demo() -> dict[str, Task]:
    """The kernels, whose options are reduced to those searched."""
    given = read_tuning_input(DEMO, CompileOptions("host", "w4a8"))
    found = {t.name: t for t in extract_tasks(given.mod, given.target, given.parts)}
    return {name: _reduced(found[name], free) for name, free in KERNELS.items()}


def _reduced(task: Task, free: tuple[str, ...]) -> Task:
    options = {n: v if n in free else (task.defaults[n],) for n, v in task.options.items()}
    return replace(task, options=options)


def candidates_of(task: Task) -> Iterator[dict[str, int]]:
    for values in itertools.product(*task.options.values()):
        yield dict(zip(task.options, values, strict=True))


def measure(path: Path, threads: int) -> None:
    """Write the ratio of each candidate to the default; the journal beside it resumes."""
    tasks = tasks_of_demo()
    log = TrialLog(path.with_suffix(".trials.jsonl"), "this machine")
    target = find_target("host")
    with local_device(threads) as endpoint, Builder(list(tasks.values()), target) as builder:
        tuner = TaskTuner(DeviceRunner(lambda: DeviceClient(*endpoint)), builder, log, Limits({}))
        for task in tasks.values():
            _measure(tuner, task)
        tuner.runner.close()
    table = {name: [[dict(t.choices), t.ratio] for t in log.of(tasks[name].hash)] for name in tasks}
    path.write_text(json.dumps(table))
    print({name: len(rows) for name, rows in table.items()})


def _measure(tuner: TaskTuner, task: Task) -> None:
    known = [dict(trial.choices) for trial in tuner.log.of(task.hash)]
    default = tuner.builder.build(task, task.defaults).library
    assert default is not None
    tuner.runner.prepare(arguments_of(task, task.main.lengths))
    calls = max(1, round(SAMPLE_S / min(tuner.runner.seconds(default, 1, 20))))
    for choices in candidates_of(task):
        if choices not in known:
            library = tuner.builder.build(task, choices).library
            assert library is not None
            before = min(tuner.runner.seconds(default, calls, SAMPLES))
            least = min(tuner.runner.seconds(library, calls, SAMPLES))
            tuner.log.add(task.hash, Trial(choices, least / before, least))


class Table:
    """Builder and runner that answer from measured ratios."""

    def __init__(self, task: Task, rows: list[tuple[Mapping[str, int], float | None]]) -> None:
        self.ratios = {self._key(choices): ratio for choices, ratio in rows if ratio}
        self.ratios[self._key(task.defaults)] = 1.0

    @staticmethod
    def _key(choices: Mapping[str, int]) -> bytes:
        return json.dumps(dict(choices), sort_keys=True).encode()

    def build(self, task: Task, choices: Mapping[str, int]) -> Built:
        key = self._key(choices)
        return Built(key) if key in self.ratios else Built(None, "not in the table")

    def prepare(self, arguments: object) -> None:
        pass

    def calls_for(self, library: bytes) -> int:
        return 1

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        with suppress(KeyError):
            return [self.ratios[library] * 1e-5] * samples
        raise CandidateError("not in the table")


def searched(task: Task, table: Table, model: Any, seed: int) -> list[float]:
    """Ratios in the order in which they were measured, a failure as 4."""
    with tempfile.TemporaryDirectory() as folder:
        log = TrialLog(Path(folder) / "trials.jsonl", "table")
        tuner = TaskTuner(table, table, log, Limits({}))  # type: ignore[arg-type]
        tuner.time_default(task)
        settings: dict[str, Any] = {"cost_model": model, "seed": seed}
        search(tuner, [task], find_target("host"), AFTER[-1], Path(folder), **settings)
        return [trial.ratio or 4.0 for trial in log.of(task.hash)]


def compare(path: Path, seeds: int) -> None:
    table = json.loads(path.read_text())
    target = tvm.target.Target(find_target("host").tvm)
    for name, task in tasks_of_demo().items():
        known = Table(task, table[name])
        best = min(known.ratios.values())
        print(f"{name}: {len(known.ratios)} measured of {task.size}, best {best:.3f} of default")
        print(
            f"{'model':10s}" + "".join(f"{f'after {n}':>10s}" for n in AFTER) + "  CPU s a search"
        )
        extractor = make_cost_model("features", [task], target, 0).extractor  # caches features
        for model in MODELS:
            began, runs = time.process_time(), []
            for seed in range(1, seeds + 1):
                made = make_cost_model(model, [task], target, seed)
                if model == "features":
                    made.extractor = extractor
                runs.append(searched(task, known, made, seed))
            row = [np.mean([min(run[:n]) for run in runs]) / best for n in AFTER]
            spent = (time.process_time() - began) / seeds
            print(
                f"{model:10s}" + "".join(f"{v:10.3f}" for v in row) + f"{spent:12.1f}", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["measure", "compare"])
    parser.add_argument("table", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    if given.action == "measure":
        measure(given.table, given.threads)
    else:
        compare(given.table, given.seeds)


if __name__ == "__main__":
    main()
