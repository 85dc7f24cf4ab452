"""The run for a borrowed card: limits of time, and what it says where nothing can be measured."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("tvm", reason="the benchmark imports the compiler")
import cuda_first_run
from cuda_first_run import Run, keep, run_all
from first_run_budget import Budget, Later, NotMeasuredError
from first_run_torch import Peer
from release_configs import CONFIGS
from versus_modules import Decoder
from versus_shape import shape_of


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


def test_a_bug_of_a_step_ends_it_alone_and_figures_are_kept(tmp_path: Path) -> None:
    output = tmp_path / "new" / "figures.json"
    budget = Budget.of(1, 1, {})
    budget.keep = partial(keep, output, False)
    budget.step("measured", lambda: ("3 tok/s", {"decode_tok_s": 3}))
    assert json.loads(output.read_text())["steps"][0]["data"] == {"decode_tok_s": 3}
    result = budget.step("wrong", lambda: ("", json.loads("{}")["no such key"]))
    assert "not measured: a bug of this step: KeyError" in result.line
    found = json.loads(output.read_text())["steps"]
    assert [step["step"] for step in found] == ["measured", "wrong"]


def test_a_step_leaves_later_ones_their_time() -> None:
    budget = Budget.of(1, 1, {})
    wait = [sys.executable, "-c", "import time; time.sleep(60)"]
    slow = budget.step("slow", lambda: (budget.command(wait, 50), None), by=2)
    assert "it took longer than" in slow.why and slow.seconds < 30
    late = budget.step("late", lambda: (budget.command(wait, 50), None), by=2)
    assert late.why == "no time is left"


def test_a_process_that_a_command_leaves_behind_is_not_waited_for() -> None:
    code = (
        "import subprocess, sys;"
        "words = [sys.executable, '-c', 'import time; time.sleep(100)'];"
        "print(subprocess.Popen(words, start_new_session=True).pid)"
    )
    started = time.monotonic()
    left = int(Budget.of(2, 1, {}).command([sys.executable, "-c", code], 100))
    os.kill(left, signal.SIGKILL)
    assert time.monotonic() - started < 90


def test_nothing_is_left_running() -> None:
    budget = Budget.of(1, 1, {})
    code = "import time; print('up', flush=True); time.sleep(60)"
    later = Later(lambda: budget.command([sys.executable, "-c", code], 50))
    while not budget.children:
        time.sleep(0.01)
    budget.stop()
    with pytest.raises(NotMeasuredError, match="exit code -9"):
        later.wait(20)
    with pytest.raises(NotMeasuredError, match="no time is left"):
        budget.command([sys.executable, "-c", code], 50)


def test_later() -> None:
    def fail() -> None:
        raise NotMeasuredError("no disk")

    assert Later(lambda: 3).wait(10) == 3
    with pytest.raises(NotMeasuredError, match="a bug of its preparation: ZeroDivisionError"):
        Later(lambda: 1 / 0).wait(10)
    with pytest.raises(NotMeasuredError, match="no disk"):
        Later(fail).wait(10)
    with pytest.raises(NotMeasuredError, match="too long"):
        Later(lambda: time.sleep(5)).wait(0.1)


def test_pytorch_has_the_shape_of_a_config() -> None:
    """As the step writes it: config.json says neither the width of a head nor the scales."""
    demo = json.loads((cuda_first_run.DEMO / "config.json").read_text())
    try:
        peer = Peer(shape_of(demo), "cpu", prefill=16, tokens=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(peer.seconds(row) > 0 for row in (peer.encode, peer.prefill, peer.decode))
    with torch.device("meta"):
        assert Decoder(shape_of(CONFIGS["seed"])).head_dim == 64
