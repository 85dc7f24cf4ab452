"""Tables of measured candidates, which stand in for a device when searches are compared."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from handglass.compiler.lowering.task_arguments import arguments_of
from handglass.compiler.lowering.tasks import Task, extract_tasks
from handglass.compiler.tuning.builder import Builder, Built
from handglass.compiler.tuning.device_runner import CandidateError, DeviceRunner
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.task_tuner import TaskTuner
from handglass.compiler.tuning.trials import Trial, TrialLog
from handglass.compiler.tuning.tuning_input import CompileOptions, shapes_of
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import local_device
from handglass.targets import find_target

DEMO = Path(__file__).parents[1] / "examples" / "demo-checkpoint" / "config.json"
MATMUL = ("tiles_per_padding", "panels", "row_block")
FREE = {
    "fused_matmul2_add1_add2": MATMUL,
    "fused_matmul4_add1_add2": MATMUL,
    "matmul8": MATMUL,
    "matmul9": MATMUL,
    "vision_attention": ("tile", "chunk", "passes", "scores.rows"),
    "causal_attention1": (
        "scores.rows",
        "scores.unroll",
        "mix.columns",
        "mix.rows",
        "mix.unroll",
        "edge.rows",
    ),
}
"""By kernel of the demo model: the choices that are searched; the others keep their defaults."""
NEAR = {
    "fused_matmul2_add1_add2": "fused_matmul4_add1_add2",
    "fused_matmul4_add1_add2": "fused_matmul2_add1_add2",
    "matmul8": "matmul9",
    "matmul9": "matmul8",
}
"""By kernel: one with other lengths, whose best candidate seeds the search."""
PASSES, ROUNDS, SAMPLES, SAMPLE_S = 3, 4, 10, 5e-4
"""Passes over a table; rounds of default and candidate in each; samples in each of these, far
shorter than the time slice of another program."""


def demo_tasks() -> dict[str, Task]:
    """The kernels of FREE, with options reduced to those searched."""
    given = shapes_of(json.loads(DEMO.read_text()), CompileOptions("host", "w4a8"))
    found = {t.name: t for t in extract_tasks(given.mod, given.target, given.parts)}
    return {name: _reduced(found[name], free) for name, free in FREE.items()}


def _reduced(task: Task, free: tuple[str, ...]) -> Task:
    options = {n: v if n in free else (task.defaults[n],) for n, v in task.options.items()}
    return replace(task, options=options)


def candidates_of(task: Task) -> Iterator[dict[str, int]]:
    for values in itertools.product(*task.options.values()):
        yield dict(zip(task.options, values, strict=True))


def measure(path: Path, threads: int, kernel: str | None = None) -> None:
    """Time every candidate of a table, or of all, PASSES times, unless the journal has it."""
    tasks = [task for name, task in demo_tasks().items() if kernel in (None, name)]
    log = TrialLog(path, "this machine")
    target = find_target("host")
    with local_device(threads) as endpoint, Builder(tasks, target) as builder:
        tuner = TaskTuner(DeviceRunner(lambda: DeviceClient(*endpoint)), builder, log, Limits({}))
        built: dict[tuple[str, bytes], bytes] = {}
        for number in range(PASSES):
            for task in tasks:
                _measure(tuner, task, number, built)
        tuner.runner.close()


def _measure(
    tuner: TaskTuner, task: Task, number: int, built: dict[tuple[str, bytes], bytes]
) -> None:
    """Pass `number` over a table, in an order of its own. `built`: the libraries so far."""

    def library_of(choices: Mapping[str, int]) -> bytes:
        key = task.hash, _key(choices)
        if key not in built:
            made = tuner.builder.build(task, choices)
            assert made.library is not None, made.reason
            built[key] = made.library
        return built[key]

    default = library_of(task.defaults)
    tuner.runner.prepare(arguments_of(task, task.main.lengths))
    calls = max(1, round(SAMPLE_S / min(tuner.runner.seconds(default, 1, 20))))
    left = [c for c in candidates_of(task) if len(_ratios(tuner.log, task, c)) <= number]
    random.Random(number).shuffle(left)
    for choices in left:
        library = library_of(choices)
        samples: dict[bytes, list[float]] = {default: [], library: []}
        for turn in range(ROUNDS):
            for one in (default, library) if turn % 2 else (library, default):
                samples[one] += tuner.runner.seconds(one, calls, SAMPLES)
        least = min(samples[library])
        tuner.log.add(task.hash, Trial(choices, least / min(samples[default]), least))
    print(f"{task.about.partition(':')[0]}: pass {number + 1}, {len(left)} candidates", flush=True)


def _ratios(log: TrialLog, task: Task, choices: Mapping[str, int]) -> list[float]:
    return [t.ratio for t in log.of(task.hash) if t.choices == choices and t.ratio]


class Table:
    """Builder and runner that answer from measured ratios: the median of the passes."""

    def __init__(self, task: Task, log: TrialLog) -> None:
        passes: dict[bytes, list[float]] = {}
        for trial in log.of(task.hash):
            passes.setdefault(_key(trial.choices), []).append(trial.ratio or np.inf)
        self.ratios = {key: float(np.median(ratios)) for key, ratios in passes.items()}
        self.ratios[_key(task.defaults)] = 1.0
        self.best = min(self.ratios.values())
        whole = [ratios for ratios in passes.values() if len(ratios) > 1]
        self.noise = float(np.median([max(r) / min(r) - 1 for r in whole])) if whole else np.nan
        """Median over the candidates of the range of their passes."""

    def text(self, task: Task) -> str:
        """What the table has, and how well it repeats."""
        count, noise = len(self.ratios), f"{self.noise:.1%}" if self.noise == self.noise else "-"
        best = f"best {self.best:.3f} of the default"
        return f"{count} measured of {task.size}, {best}, passes differ by {noise} (median)"

    def winner(self) -> dict[str, int]:
        """The choices of the fastest candidate."""
        return dict(json.loads(min(self.ratios, key=lambda key: self.ratios[key])))

    def build(self, task: Task, choices: Mapping[str, int]) -> Built:
        key = _key(choices)
        return Built(key) if key in self.ratios else Built(None, "not in the table")

    def prepare(self, arguments: object) -> None:
        pass

    def calls_for(self, library: bytes) -> int:
        return 1

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        with suppress(KeyError):
            return [self.ratios[library] * 1e-5] * samples
        raise CandidateError("not in the table")


def _key(choices: Mapping[str, int]) -> bytes:
    return json.dumps(dict(choices), sort_keys=True).encode()
