"""MetaSchedule's scheduler over several kernels: batches, models, faults, and resuming."""

import itertools
import math
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
from fake_board import Board, Maker, key
from lowered_demo import V3, demo_functions

from handglass.compiler.lowering.tasks import Task, Use, make_task
from handglass.compiler.tuning import cost_models, space
from handglass.compiler.tuning.device_runner import CandidateError
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.scheduler import Search, search
from handglass.compiler.tuning.task_tuner import TaskTuner
from handglass.compiler.tuning.trials import TrialLog
from handglass.errors import DeviceError

pytestmark = pytest.mark.compiler

CALLS = {"causal_attention1": 40, "fused_matmul10_multiply1_add5": 2}


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """A kernel with 1,843,200 candidates that is called often, one with 3,888 that is not."""
    found = []
    for name, calls in CALLS.items():
        uses = (Use({"s": 1, "pos": 80, "n": 4, "m": 4}, calls),)
        task = make_task(name, demo_functions()[name], V3, uses)
        assert task is not None and task.size == {40: 1_843_200, 2: 3_888}[calls]
        found.append(task)
    return found


def cost(choices: Mapping[str, int]) -> float:
    """Microseconds: a bowl with its minimum at 4 for every choice."""
    return 5 + sum(abs(math.log2(1 + value) - math.log2(5)) for value in choices.values())


class Bowl(Board):
    """`before(calls)` may raise what a device raises."""

    def __init__(self, before: Callable[[int], object] = lambda calls: None) -> None:
        self.before, self.calls, self.ran = before, 0, 0

    def prepare(self, arguments: Any) -> None:
        pass

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        self.calls += 1
        self.before(self.calls)
        return [cost(dict(eval(library))) * 1e-6] * samples


@pytest.fixture
def run(tasks: list[Task], tmp_path: Path) -> Callable[..., tuple[Search, TaskTuner]]:
    def call(
        trials: int, board: Bowl | None = None, kernels: slice = slice(None), **settings: Any
    ) -> tuple[Search, TaskTuner]:
        board = board or Bowl()
        log = TrialLog(tmp_path / "trials.jsonl", "board")
        tuner = TaskTuner(board, Maker(), log, Limits({}))  # type: ignore[arg-type]
        before, board.before = board.before, lambda calls: None
        for task in tasks[kernels]:
            tuner.time_default(task)
        board.before, board.calls = before, 0
        folder = tmp_path / "metaschedule"
        return search(tuner, tasks[kernels], V3, trials, folder, **settings), tuner

    return call


def measured(tuner: TaskTuner, task: Task) -> list[bytes]:
    """The candidates in the journal, which must be different and not the default."""
    found = [key(trial.choices) for trial in tuner.log.of(task.hash)]
    assert len(set(found)) == len(found) and key(task.defaults) not in found
    return found


def test_the_costly_kernel_gets_the_trials(run: Any, tasks: list[Task]) -> None:
    _, tuner = run(60)
    often, seldom = (len(measured(tuner, task)) for task in tasks)
    assert often + seldom == 60 and often > 3 * seldom > 0


@pytest.mark.parametrize("model", ["choices", "random"])
def test_a_later_run_measures_nothing_twice(model: str, run: Any, tasks: list[Task]) -> None:
    counts = []
    for trials in (10, 25, 25):
        _, tuner = run(trials, cost_model=model)
        counts.append(sum(len(measured(tuner, task)) for task in tasks))
    assert counts == [10, 25, 25]


def test_the_features_are_of_the_scheduled_kernel(run: Any, tasks: list[Task]) -> None:
    pytest.importorskip("xgboost")
    _, tuner = run(6, kernels=slice(1, 2), cost_model="features")
    assert len(measured(tuner, tasks[1])) == 6


@pytest.mark.large
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_trees_find_more_than_chance(seed: int, run: Any, tasks: list[Task]) -> None:
    """Some 70 trials find one of the best 1 % of them; chance does in half of the runs."""
    pytest.importorskip("xgboost")
    _, tuner = run(80, cost_model="choices", seed=seed)
    names, options = tasks[0].options.keys(), tasks[0].options.values()
    everything = sorted(
        cost(dict(zip(names, values, strict=True))) for values in itertools.product(*options)
    )
    best = min(cost(trial.choices) for trial in tuner.log.of(tasks[0].hash))
    assert best <= everything[len(everything) // 100]


def test_a_device_that_vanishes_ends_the_run_which_resumes(run: Any, tasks: list[Task]) -> None:
    def gone(calls: int) -> None:
        if calls == 30:
            raise DeviceError("the device is gone")

    with pytest.raises(DeviceError, match="the device is gone"):
        run(40, Bowl(gone))
    _, tuner = run(40)
    assert sum(len(measured(tuner, task)) for task in tasks) == 40


def test_ctrl_c_in_the_runner_is_a_keyboard_interrupt(run: Any, tasks: list[Task]) -> None:
    def pressed(calls: int) -> None:
        if calls == 30:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        with pytest.raises(KeyboardInterrupt):
            run(40, Bowl(pressed))
    finally:
        signal.signal(signal.SIGINT, before)
    _, tuner = run(12)
    assert sum(len(measured(tuner, task)) for task in tasks) == 12


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_in_a_callback_ends_the_run(
    error: type[BaseException], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where C++ converts the exception."""

    def fail(*_: Any) -> None:
        raise error("from the mutator")

    monkeypatch.setattr(space._FlipChoice, "apply", fail)
    with pytest.raises((error, RuntimeError)):
        run(40)


def test_a_kernel_whose_default_fails_does_not_end_the_others(run: Any, tasks: list[Task]) -> None:
    default = key(tasks[0].defaults)

    class Broken(Bowl):
        def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
            if library == default and self.calls > 4:
                raise CandidateError("runner: SIGILL")
            return super().seconds(library, number, samples)

    found, tuner = run(30, Broken())
    assert "SIGILL" in found.failed[tasks[0].hash] and len(found.failed) == 1
    assert sum(len(measured(tuner, task)) for task in tasks) == 30


def test_without_xgboost_it_is_chance_unless_trees_are_asked_for(
    run: Any, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_models, "find_spec", lambda name: None)
    for model in ("choices", "features"):
        with pytest.raises(DeviceError, match=r"handglass\[tune\]"):
            run(8, cost_model=model)
    _, tuner = run(8)
    assert sum(len(measured(tuner, task)) for task in tasks) == 8
