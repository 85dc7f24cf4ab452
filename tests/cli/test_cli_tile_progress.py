"""The line that counts encoded tiles on a terminal."""

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handglass.cli.tile_progress import ERASED, TileLine, pieces_after_tiles


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Encoding:
    """An answer that encodes `tiles` of two tiles, and is interrupted if that is not all."""

    def __init__(self, tiles: int) -> None:
        self.tiles = tiles
        self.report: Callable[[int, int], None] | None = None

    def watch(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def with_thoughts(self) -> Iterator[str]:
        for done in range(self.tiles + 1):
            if self.report:
                self.report(done, 2)
        if self.tiles < 2:
            raise KeyboardInterrupt
        yield "a"
        yield "b"


def test_tiles_and_seconds_are_counted() -> None:
    terminal, seconds = Terminal(), iter([10.0, 12.5, 15.0])
    line = TileLine(terminal, lambda: next(seconds))
    for done in range(3):
        line(done, 2)
    first, second = "encoding tiles 0/2, 0.0 s", "encoding tiles 1/2, 2.5 s, about 2 s left"
    assert terminal.getvalue() == f"{ERASED}{first}{ERASED}{second}{ERASED}"


def test_the_line_is_erased_before_the_first_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = Encoding(2)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for piece in pieces_after_tiles(answer, silent=False):
        terminal.write(piece)
    before, shown = terminal.getvalue().rsplit(ERASED, 1)
    assert shown == "ab" and "1/2" in before


def test_the_line_of_an_interrupted_answer_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = Encoding(1)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(KeyboardInterrupt):
        list(pieces_after_tiles(answer, silent=False))
    written = terminal.getvalue()
    assert "1/2" in written and written.endswith(ERASED)
    answer.report(2, 2)  # the thread of the model ends its step
    assert terminal.getvalue() == written


@pytest.mark.parametrize(("stream", "silent"), [(io.StringIO(), False), (Terminal(), True)])
def test_nothing_is_written_to_a_pipe_or_with_json(
    monkeypatch: pytest.MonkeyPatch, stream: Any, silent: bool
) -> None:
    answer: Any = Encoding(2)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(pieces_after_tiles(answer, silent)) == ["a", "b"]
    assert answer.report is None and stream.getvalue() == ""
