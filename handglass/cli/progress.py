"""Progress on standard error: a bar on a terminal, plain lines otherwise.

Work reports (phase, done, total); total 0 means unknown. A phase ends when the next one begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Report = Callable[[str, int, int], None]
QUIET_SECONDS = 5.0  # between two plain lines about the same phase


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Report]:
    """Yield the callback that reports progress."""
    stream = stream or sys.stderr
    if stream.isatty():
        with bar(stream) as report:
            yield report
    else:
        yield PlainLines(stream)


class PlainLines:
    """Prints a line when a phase begins and ends, and every `QUIET_SECONDS` in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock
        self.phase = ""
        self.started = self.last_line = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = self.clock()
        if phase != self.phase:
            self.phase, self.started, self.last_line = phase, now, float("-inf")
        if now - self.last_line < QUIET_SECONDS and done != total:
            return
        self.last_line = now
        print(line(phase, done, total, now - self.started), file=self.stream, flush=True)


def line(phase: str, done: int, total: int, elapsed: float) -> str:
    count = f" {done}/{total}" if total else ""
    text = f"{phase}{count}, {elapsed:.1f} s"
    if 0 < done < total:
        text += f", about {elapsed / done * (total - done):.0f} s left"
    return text


@contextmanager
def bar(stream: TextIO) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )
    phases: dict[str, TaskID] = {}

    def report(phase: str, done: int, total: int) -> None:
        if phase not in phases:
            complete(display)
            phases[phase] = display.add_task(phase, total=None)
        display.update(phases[phase], completed=done, total=total or None)

    with display:
        yield report
        complete(display)


def complete(display: Progress) -> None:
    """Mark every phase so far as complete, whatever count it last reported."""
    for task in display.tasks:
        display.update(task.id, completed=task.total or 1, total=task.total or 1)
