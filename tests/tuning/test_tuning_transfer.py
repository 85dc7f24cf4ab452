"""Records of near kernels are the first candidates of a search."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
from fake_board import Board, Maker, by_panels
from lowered_demo import V3, four_bit_row
from some_records import RECORD

from handglass.compiler.lowering.tasks import Task
from handglass.compiler.records.record import Record
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.scheduler import search
from handglass.compiler.tuning.task_tuner import TaskTuner
from handglass.compiler.tuning.transfer import distance, proposals_of
from handglass.compiler.tuning.trials import TrialLog

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def task() -> Task:
    return four_bit_row()


@pytest.fixture
def near(task: Task) -> Callable[..., Record]:
    """A record of a kernel whose lengths are `factor` times those of the task."""

    def call(factor: int, panels: int, rule: str = "") -> Record:
        about = task.about.replace("(1, ", f"({factor}, ")
        choices = {"panels": panels}
        return replace(RECORD, rule=rule or task.rule.name, about=about, choices=choices)

    return call


def test_the_nearest_lengths_come_first(task: Task, near: Callable[..., Record]) -> None:
    records = [near(16, 1), near(2, 8), near(4, 2), near(8, 8)]
    assert proposals_of(task, records, 9) == [{"panels": 8}, {"panels": 2}, {"panels": 1}]
    assert proposals_of(task, records, 1) == [{"panels": 8}]
    assert distance(records[0].about, task.about) > distance(records[1].about, task.about) > 0


def test_other_kernels_and_choices_propose_nothing(task: Task, near: Callable[..., Record]) -> None:
    other = replace(near(1, 8), about=task.about.replace("int8", "int16"))
    default = near(2, task.defaults["panels"])
    unknown = replace(near(1, 8), choices={"rows": 2})
    assert proposals_of(task, [other, default, near(1, 3), near(1, 8, "other"), unknown], 9) == []


def test_what_a_record_proposes_is_measured_first(
    task: Task, near: Callable[..., Record], tmp_path: Path
) -> None:
    log = TrialLog(tmp_path / "trials.jsonl", "board")
    board = Board(by_panels(p1=9, p2=8, p4=10, p8=7))
    tuner = TaskTuner(board, Maker(), log, Limits({}))  # type: ignore[arg-type]
    tuner.time_default(task)
    search(tuner, [task], V3, 1, tmp_path, records=[near(3, 8)])
    assert [dict(trial.choices) for trial in log.of(task.hash)] == [{"panels": 8}]
