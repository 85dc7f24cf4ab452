"""Progress of long work: plain lines in a log, a bar on a terminal."""

import io

import pytest

from handglass.cli.output import columns, print_json, size_text
from handglass.cli.progress import PlainLines, line, progress


def test_plain_lines_are_few() -> None:
    now = [0.0]
    stream = io.StringIO()
    report = PlainLines(stream, clock=lambda: now[0])
    for done in range(101):
        now[0] = done * 0.1
        report("quantise", done, 100)
    report("lower", 0, 0)
    assert stream.getvalue().splitlines() == [
        "quantise 0/100, 0.0 s",
        "quantise 50/100, 5.0 s, about 5 s left",
        "quantise 100/100, 10.0 s",
        "lower, 0.0 s",
    ]


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, 0, "link, 2.0 s"),
        (0, 4, "link 0/4, 2.0 s"),
        (1, 4, "link 1/4, 2.0 s, about 6 s left"),
        (4, 4, "link 4/4, 2.0 s"),
    ],
)
def test_line(done: int, total: int, text: str) -> None:
    assert line("link", done, total, 2.0) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal() -> None:
    stream = Terminal()
    with progress(stream) as report:
        for done in range(4):
            report("quantise", done, 3)
        report("lower", 2, 4)
        report("link", 0, 0)
    shown = stream.getvalue()
    assert all(phase in shown for phase in ("quantise", "3/3", "lower", "4/4", "link", "1/1"))


def test_bar_of_an_interrupted_phase_is_not_completed() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), progress(stream) as report:
        report("quantise", 1, 3)
        raise KeyboardInterrupt
    assert "3/3" not in stream.getvalue()


def test_no_bar_in_a_pipe() -> None:
    stream = io.StringIO()
    with progress(stream) as report:
        report("quantise", 3, 3)
    assert "\x1b" not in stream.getvalue()


def test_columns_are_aligned_without_trailing_spaces() -> None:
    assert columns([("a", "bb", ""), ("aaa", "b", "x")]) == "a    bb\naaa  b   x"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (3_400_000, "3 MB"), (1_210_000_000, "1.21 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"snr_db": float("inf"), "floor_db": [1.5, float("nan")]})
    assert capsys.readouterr().out == '{"snr_db": null, "floor_db": [1.5, null]}\n'
