"""The run for a borrowed card: limits of time, and what it says where nothing can be measured."""

import sys
import time

import pytest

pytest.importorskip("tvm", reason="the benchmark imports the compiler")
import cuda_first_run
from cuda_first_run import Run, run_all
from first_run_budget import Budget, Later, NotMeasuredError


def test_without_a_device_every_step_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(run: Run) -> tuple[str, None]:
        run.problem = "no CUDA device: no driver"
        raise NotMeasuredError(run.problem)

    monkeypatch.setattr(cuda_first_run, "find_device", none)
    run = Run(Budget.of(1, 1, {}), "cuda:0", emulated=False)
    run_all(run)
    names = [result.step for result in run.budget.results]
    assert names[0] == "device" and "speed of 4.6" in names and names[-1] == "tuning"
    for result in run.budget.results:
        assert "not measured: no CUDA device: no driver" in result.line, result.step


def test_a_step_that_fails_or_hangs_ends_alone() -> None:
    budget = Budget.of(1, 1, {"WORD": "hello"})
    python = lambda code: [sys.executable, "-c", code]  # noqa: E731
    code = "import os; print(os.environ['WORD'])"
    result = budget.step("said", lambda: (budget.command(python(code), 30).strip(), None))
    assert result.line.startswith("said: hello [")
    failing = budget.step("failing", lambda: (budget.command(python("1/0"), 30), None))
    assert "not measured: exit code 1: " in failing.line and "ZeroDivisionError" in failing.why
    start = time.monotonic()
    hanging = budget.step(
        "hanging", lambda: (budget.command(python("import time; time.sleep(60)"), 1), None)
    )
    assert "it took longer than 1 s" in hanging.why and time.monotonic() - start < 30
    budget.end = time.monotonic()
    with pytest.raises(NotMeasuredError, match="no time is left"):
        budget.command(python(code), 30)


def test_nothing_is_left_running() -> None:
    budget = Budget.of(1, 1, {})
    code = "import time; print('up', flush=True); time.sleep(60)"
    later = Later(lambda: budget.command([sys.executable, "-c", code], 50))
    while not budget.children:
        time.sleep(0.01)
    budget.stop()
    with pytest.raises(NotMeasuredError, match="exit code -9"):
        later.wait(20)


def test_later() -> None:
    def fail() -> None:
        raise NotMeasuredError("no disk")

    assert Later(lambda: 3).wait(10) == 3
    with pytest.raises(NotMeasuredError, match="no disk"):
        Later(fail).wait(10)
    with pytest.raises(NotMeasuredError, match="too long"):
        Later(lambda: time.sleep(5)).wait(0.1)
