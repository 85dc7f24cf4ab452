"""Long work on standard error: a bar on a terminal, plain lines everywhere else.

Work reports (phase, done, total); total 0 means that nobody knows. One phase ends when the next
begins.
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
    """Yields the function that the work calls."""
    stream = stream or sys.stderr
    if stream.isatty():
        with bar(stream) as report:
            yield report
    else:
        yield PlainLines(stream)


class PlainLines:
    """A line when a phase begins, when it is done, and now and then between."""

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

    shown = Progress(
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
            fill(shown)
            phases[phase] = shown.add_task(phase, total=None)
        shown.update(phases[phase], completed=done, total=total or None)

    with shown:
        yield report
        fill(shown)


def fill(shown: Progress) -> None:
    """The phases so far are over, whatever they counted last."""
    for task in shown.tasks:
        shown.update(task.id, completed=task.total or 1, total=task.total or 1)
