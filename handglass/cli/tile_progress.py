"""Counts the encoded tiles of an answer's pictures on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from .progress import line
from .terminal import takes_codes

if TYPE_CHECKING:
    from handglass.runtime.answer.model import AnswerStream

ERASED = "\r\x1b[K"


def pieces_after_tiles(answer: AnswerStream, silent: bool) -> Iterator[str]:
    """The pieces of `answer`. Before the first one, its tiles are counted on standard error, if
    that is a terminal which can erase a line."""
    pieces = answer.with_thoughts()
    if silent or not takes_codes(sys.stderr):
        yield from pieces
        return
    shown = TileLine(sys.stderr)
    answer.watch(shown)
    try:
        for piece in pieces:
            shown.close()
            yield piece
    finally:
        shown.close()


class TileLine:
    """One line, erased when every tile is encoded. The model's thread calls it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started: float | None = None
        self._is_visible = self._is_closed = False
        self._writing = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if self._started is None:
            self._started = now
        text = "" if done == total else line("encoding tiles", done, total, now - self._started)
        with self._writing:
            if not self._is_closed:
                self._show(text)

    def close(self) -> None:
        """Erase what an interrupted answer has left, and ignore later calls."""
        with self._writing:
            self._is_closed = True
            if self._is_visible:
                self._show("")

    def _show(self, text: str) -> None:
        self._is_visible = bool(text)
        self._stream.write(ERASED + text)
        self._stream.flush()
