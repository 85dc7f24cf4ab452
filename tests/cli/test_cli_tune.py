"""`handglass tune`: its progress lines and the arguments it rejects."""

import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")

from handglass.cli.remote import parse_address
from handglass.cli.tune_progress import Estimate, PlainLines, line, status, table
from handglass.compiler.tuning.progress import Progress, Standing
from handglass.errors import UsageError

TABLE = (Standing("matmul", 64, 0.25, 16, 812.5, 0.87), Standing("norm", 1280, 0.01, 2, 3.1, None))


def at(trial: int, name: str = "matmul", table: tuple[Standing, ...] = ()) -> Progress:
    return Progress(2, 9, name, 0.25, trial, 40, 812.5, 0.87, table)


def test_a_line_has_the_kernel_its_progress_and_the_best_time() -> None:
    assert line(at(16), ", 30 s left") == (
        "[2/9] matmul (25.0% of an answer) 16/40: best 812.5 us, 87% of the limit, 30 s left"
    )


def test_the_time_left_follows_the_trials_made() -> None:
    seconds = iter([0.0, 10.0, 1000.0])
    estimate = Estimate(lambda: next(seconds))
    assert estimate(100) == ""
    assert estimate(90) == ", 90 s left"
    assert estimate(50) == ", about 17 min left"


def test_plain_lines_are_few_but_every_kernel_has_one() -> None:
    stream, clock = io.StringIO(), iter(range(100))
    lines = PlainLines(stream, lambda: float(next(clock)) / 10)
    for number in range(4):
        lines(at(number))
    lines(at(10, "attention"))
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["matmul", "attention"]


def test_the_table_has_weight_trials_best_and_limit() -> None:
    assert [text.split() for text in table(at(18, table=TABLE)).splitlines()] == [
        ["KERNEL", "WEIGHT", "TRIALS", "BEST", "LIMIT"],
        ["matmul", "64", "16", "812.5", "us", "87%"],
        ["norm", "1,280", "2", "3.1", "us", "-"],
    ]


def test_plain_tables_are_few_but_the_last_trial_has_one() -> None:
    stream, clock = io.StringIO(), iter([0.0, 1.0, 61.0, 62.0, 63.0])
    lines = PlainLines(stream, lambda: next(clock))
    lines._estimate = lambda left: ""  # type: ignore[assignment]
    for trial in (1, 2, 3, 40):
        lines(at(trial, table=TABLE))
    assert stream.getvalue().count("KERNEL") == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_table_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with status(stream) as report:
        report(at(16, table=TABLE))
    assert "WEIGHT" in stream.getvalue() and "[2/9] matmul" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9190", ("127.0.0.1", 9190)), ("[::1]:80", ("::1", 80)), ("pi:9", ("pi", 9))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "pi", ":9190", "pi:", "pi:0", "pi:65536", "pi:-1", "pi:x"])
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--rpc", "127.0.0.1:1"], "HANDGLASS_DEVICE_KEY"),
        (["--rpc", "127.0.0.1:1", "--threads", "2"], "--threads"),
        (["--key-file", "key"], "--rpc"),
        (["--target", "raspberry-pi-6"], "raspberry-pi-"),
        (["--cost-model", "trees"], "features, choices, random"),
        (["--mmproj", "a.gguf"], "--mmproj goes with the GGUF file"),
    ],
)
def test_contradictions_are_refused(
    flags: list[str], text: str, handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HANDGLASS_DEVICE_KEY", raising=False)
    result = handglass("tune", "-m", "examples/demo-checkpoint", "--work-dir", tmp_path, *flags)
    assert result.code == 2
    assert text in result.err


def test_the_runtime_alone_is_no_compiler(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handglass.cli.checks.has_compiler", lambda: False)
    result = handglass("tune", "-m", "examples/demo-checkpoint")
    assert (result.code, "needs the TVM compiler" in result.err) == (4, True)


def test_no_server(handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDGLASS_DEVICE_KEY", "k" * 32)
    flags = ("--rpc", "127.0.0.1:9", "--work-dir", tmp_path)
    result = handglass("tune", "-m", "examples/demo-checkpoint", *flags)
    assert result.code == 4
    assert "127.0.0.1:9" in result.err
