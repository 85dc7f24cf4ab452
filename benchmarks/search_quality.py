"""Compares searches of the tuner over tables of measured candidates.

    python benchmarks/search_quality.py measure TABLE.jsonl [--threads 1] [--kernel NAME]
    python benchmarks/search_quality.py compare TABLE.jsonl [--seeds 10]
    python benchmarks/search_quality.py transfer TABLE.jsonl [--seeds 10]

`measure` times the candidates of kernels of the demo model on this machine (search_tables.py), in
samples that alternate with the default, in several passes; it resumes. `compare` searches each
table with each cost model and prints the best time of n trials, without the default, over the best
of the table: the mean over seeds. `transfer` prints the trials until a search is within 1 % of the
best of the table, the mean over seeds, with and without the best candidate of a kernel with other
lengths as a record.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from search_tables import NEAR, Table, demo_tasks, measure

from handglass.compiler.lowering.tasks import Task
from handglass.compiler.records.record import Device, Record, Verified
from handglass.compiler.tune import record_of
from handglass.compiler.tuning.cost_models import MODELS, make_cost_model
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.progress import Row
from handglass.compiler.tuning.scheduler import search
from handglass.compiler.tuning.task_tuner import Outcome, TaskTuner
from handglass.compiler.tuning.trials import TrialLog
from handglass.targets import find_target

AFTER = (8, 16, 24, 32, 48, 64)
LEAST = 300
"""Fewest measured candidates of a table for `compare`."""
NEAR_ENOUGH = 1.01


def searched(
    task: Task, table: Table, model: Any, seed: int, records: Sequence[Record] = ()
) -> list[float]:
    """Ratios in the order in which they were measured, a failure as 4."""
    with tempfile.TemporaryDirectory() as folder:
        log = TrialLog(Path(folder) / "trials.jsonl", "table")
        tuner = TaskTuner(table, table, log, Limits({}))  # type: ignore[arg-type]
        tuner.time_default(task)
        settings: dict[str, Any] = {"cost_model": model, "seed": seed, "records": records}
        search(tuner, [task], find_target("host"), AFTER[-1], Path(folder), **settings)
        return [trial.ratio or 4.0 for trial in log.of(task.hash)]


def compare(log: TrialLog, seeds: int) -> None:
    target = tvm.target.Target(find_target("host").tvm)
    for name, task in demo_tasks().items():
        table = Table(task, log)
        if len(table.ratios) < LEAST:
            continue
        print(f"{name}: {table.text(task)}")
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
                runs.append(searched(task, table, made, seed))
            row = [np.mean([min(run[:n]) for run in runs]) / table.best for n in AFTER]
            spent = (time.process_time() - began) / seeds
            print(
                f"{model:10s}" + "".join(f"{v:10.3f}" for v in row) + f"{spent:12.1f}", flush=True
            )


def transfer(log: TrialLog, seeds: int) -> None:
    tasks = demo_tasks()
    print(f"{'kernel':28s}{'candidates':>11s}{'alone':>8s}{'seeded':>8s}   trials to within 1 %")
    for name, other in NEAR.items():
        table = Table(tasks[name], log)
        records = [record_from(tasks[other], Table(tasks[other], log))]
        means = [
            np.mean(
                [
                    trials_needed(searched(tasks[name], table, None, seed, given), table.best)
                    for seed in range(1, seeds + 1)
                ]
            )
            for given in ([], records)
        ]
        print(f"{name:28s}{len(table.ratios):11d}{means[0]:8.1f}{means[1]:8.1f}", flush=True)


def trials_needed(ratios: Sequence[float], best: float) -> int:
    """Trials until one is near the best of the table; 0 if the default is."""
    enough = [n for n, ratio in enumerate([1.0, *ratios]) if ratio <= NEAR_ENOUGH * best]
    return enough[0] if enough else len(ratios) + 1


def record_from(task: Task, table: Table) -> Record:
    """The record that a search of the whole table would have written."""
    outcome = Outcome(task, len(table.ratios), table.winner(), verified=Verified(None, 0.0))
    device = Device("this machine", "x86_64", 1, 1)
    return record_of(outcome, Row(task, 1.0, 1.0), find_target("host"), device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["measure", "compare", "transfer"])
    parser.add_argument("table", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernel", help="measure only this one")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    if given.action == "measure":
        measure(given.table, given.threads, given.kernel)
    else:
        work = {"compare": compare, "transfer": transfer}[given.action]
        work(TrialLog(given.table, "this machine"), given.seeds)


if __name__ == "__main__":
    main()
