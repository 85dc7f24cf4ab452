"""The conditions for a record, on a fake device with given times and results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
from fake_board import Board, Maker, by_panels
from lowered_demo import V3, demo_functions, four_bit_row

from handglass.compiler.lowering.tasks import Task, Use, make_task
from handglass.compiler.records.record import Device, Record
from handglass.compiler.tune import Row, _Run, plausible, record_of, select, share_of
from handglass.compiler.tuning.limits import Limits
from handglass.compiler.tuning.scheduler import search
from handglass.compiler.tuning.task_tuner import Outcome, TaskError, TaskTuner
from handglass.compiler.tuning.trials import TrialLog, reasons
from handglass.errors import UsageError
from handglass.runtime.remote.client import Difference

pytestmark = pytest.mark.compiler

HERE = Device("Board", "aarch64", 4, 4)


@pytest.fixture(scope="module")
def row_task() -> Task:
    return four_bit_row()


@pytest.fixture
def tune(tmp_path: Path, row_task: Task) -> Callable[..., tuple[Outcome, TrialLog]]:
    def call(
        board: Board, maker: Maker | None = None, task: Task = row_task, trials: int = 9
    ) -> tuple[Outcome, TrialLog]:
        log = TrialLog(tmp_path / "trials.jsonl", "board")
        tuner = TaskTuner(board, maker or Maker(), log, Limits({}))  # type: ignore[arg-type]
        tuner.time_default(task)
        search(tuner, [task], V3, trials, tmp_path / "metaschedule")
        return tuner.conclude(task), log

    return call


def test_the_fastest_becomes_a_record_that_reads_back(tune: Any, row_task: Task) -> None:
    outcome, log = tune(Board(by_panels(p1=9, p2=8, p4=10, p8=7), lambda panels: 120.0))
    assert outcome.winner == {"panels": 8}
    assert len(log.of(row_task.hash)) == 3  # all but the default
    record = record_of(outcome, Row(row_task, 1e-5, 0.4), V3, HERE)
    assert Record.parse(record.text()) == record
    assert record.gain == pytest.approx(10 / 7) and record.verified.snr_db == 120.0
    hasty = replace(outcome, limit_fraction=3.18)
    assert record_of(hasty, Row(row_task, 1e-5, 0.4), V3, HERE).limit_fraction is None


def test_noise_is_no_gain(tune: Any) -> None:
    outcome, _ = tune(Board(by_panels(p1=9.85, p2=10, p4=10, p8=10)))
    assert outcome.winner is None and outcome.default_seconds == pytest.approx(1e-5)


@pytest.mark.parametrize("snr", [float("-inf"), -3.0, 20.0, 59.0])
def test_a_wrong_result_is_passed_over_for_the_next_best(tune: Any, snr: float) -> None:
    board = Board(by_panels(p1=5, p2=8, p4=10, p8=11), lambda p: snr if p == 1 else 110.0)
    assert tune(board)[0].winner == {"panels": 2}


def test_only_wrong_results_leave_the_default(tune: Any) -> None:
    outcome, _ = tune(Board(by_panels(p1=5, p2=8, p4=10, p8=6), lambda panels: 12.0))
    assert outcome.winner is None
    assert "wrong result" in outcome.note and "12 dB" in outcome.note


def test_what_is_slower_at_another_length_is_no_record(tune: Any) -> None:
    func = demo_functions()["append_keys"]
    uses = (Use({"s": 80, "pos": 0}, 4), Use({"s": 7, "pos": 0}, 0))
    task = make_task("append_keys", func, V3, uses)
    assert task is not None and task.options.keys() == {"parallel.0"}

    def run(slow: float) -> Outcome:
        other = 1 - task.defaults["parallel.0"]

        class Two(Board):
            def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
                tuned = dict(eval(library))["parallel.0"] == other
                short = self.sizes[1][0] == 7
                return [(1.0 if not tuned else slow if short else 0.5) * 1e-6] * samples

            def compare(self, *_: Any) -> Sequence[Difference]:
                return [Difference(0, None, 0.0, 1.0, True)]

        found: Outcome = tune(Two(by_panels()), task=task)[0]
        return found

    assert run(1.01).winner is not None
    slower = run(1.2)
    assert slower.winner is None and "s = 7" in slower.note


def test_crashes_and_hangs_are_reasons_and_the_rest_is_measured(tune: Any, row_task: Task) -> None:
    board = Board(by_panels(p1="runner: SIGSEGV", p2=8, p4=10, p8="runner: time limit"))
    outcome, log = tune(board)
    assert outcome.winner == {"panels": 2}
    assert reasons(log.of(row_task.hash)) in (
        "1 x runner: SIGSEGV, 1 x runner: time limit",
        "1 x runner: time limit, 1 x runner: SIGSEGV",
    )


def test_what_cannot_be_built_is_a_reason(tune: Any, row_task: Task) -> None:
    broken = Maker(lambda choices: "builder: SIGABRT" if choices["panels"] == 8 else "")
    outcome, log = tune(Board(by_panels(p1=12, p2=8, p4=10, p8=1)), broken)
    assert outcome.winner == {"panels": 2}
    assert reasons(log.of(row_task.hash)) == "1 x builder: SIGABRT"


def test_without_a_default_there_is_nothing_to_compare_with(tune: Any) -> None:
    with pytest.raises(TaskError, match="SIGILL"):
        tune(Board(by_panels(p1=1, p2=1, p4="runner: SIGILL", p8=1)))
    with pytest.raises(TaskError, match="cannot be built"):
        tune(Board(by_panels(p4=1)), Maker(lambda choices: "builder: no library after 60 s"))


def test_a_second_run_measures_nothing_twice(tune: Any) -> None:
    board = Board(by_panels(p1=9, p2=8, p4=10, p8=7))
    tune(board, trials=2)
    maker = Maker()
    outcome, log = tune(board, maker, trials=9)
    assert outcome.winner == {"panels": 8}
    assert maker.built == 1 + 1 + 1  # the default, the one left, the winner
    assert len(log.trials) == 1


def test_kernels_are_asked_for_by_name(row_task: Task) -> None:
    assert select([row_task], []) == [row_task] == select([row_task], [row_task.name])
    with pytest.raises(UsageError, match="fused_matmul13_multiply_add"):
        select([row_task], ["fused_matmul"])


def test_one_kernel_alone_is_not_the_whole_answer(row_task: Task) -> None:
    other = replace(row_task, name="other", uses=(Use({}, 192),))
    rates = Limits({"read": 1e10, "fma": 1e11, "dot4": 1e11, "dot8": 1e11})
    assert share_of([row_task], [row_task, other], rates) == pytest.approx(0.25)
    assert share_of([row_task], [row_task, other], Limits({})) == 1.0


@pytest.mark.parametrize("rate", [1e3, 1e300], ids=["far above the limit", "next to nothing"])
def test_a_fraction_never_ends_a_run(row_task: Task, tmp_path: Path, rate: float) -> None:
    """Whatever the probes measured, a record is written without it, also by a resumed run."""
    board = Board(by_panels(p1=9, p2=8, p4=10, p8=7))
    limits = Limits(dict.fromkeys(("read", "fma", "dot4", "dot8"), rate))
    journal = tmp_path / "records.jsonl"
    for turn in (1, 2):
        log = TrialLog(tmp_path / "trials.jsonl", "board")
        tuner = TaskTuner(board, Maker(), log, limits)  # type: ignore[arg-type]
        run = _Run(tuner, V3, HERE, journal, lambda _: None)
        seconds = tuner.time_default(row_task)
        run.all([Row(row_task, seconds, 0.4)], 9, tmp_path / "metaschedule")
        assert run.failed == [] and len(run.records) == 1
        records = [Record.parse(line) for line in journal.read_text().splitlines()]
        assert len(records) == turn and records[-1].choices == {"panels": 8}
        (outcome,) = run.outcomes
        if rate == 1e3:
            assert records[-1].limit_fraction is None is outcome.limit_fraction
            assert "limit_fraction" in outcome.note and "above 2" in outcome.note
        else:
            assert 0 < (records[-1].limit_fraction or 0) < 1e-200 and outcome.note == ""


def test_a_plausible_fraction_stays(row_task: Task) -> None:
    kept = Outcome(row_task, 1, None, limit_fraction=1.03, note="as it was")
    assert plausible(kept) is kept
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 2.01):
        left = plausible(replace(kept, limit_fraction=wrong))
        assert left.limit_fraction is None
        assert left.note.startswith("as it was; ") and "limit_fraction" in left.note
