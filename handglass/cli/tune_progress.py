"""Tuning progress on standard error: the table of tasks and the kernel being measured.

On a terminal both are updated in place; otherwise lines follow each other, and the table from time
to time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from .output import columns, cost_text

if TYPE_CHECKING:
    from handglass.compiler.tuning.progress import Progress

QUIET_SECONDS = 5.0  # between two plain lines about the same kernel
TABLE_SECONDS = 60.0  # between two plain tables

HEAD = ("KERNEL", "WEIGHT", "TRIALS", "BEST", "LIMIT")


class Estimate:
    """Estimates the remaining time from the trials of this run so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start: tuple[float, int] | None = None

    def __call__(self, left: int) -> str:
        """Format the time for `left` more trials; "" before the first trial is done."""
        now = self._clock()
        if self._start is None:
            self._start = now, left
        started, at_first = self._start
        made = at_first - left
        if made <= 0:
            return ""
        seconds = (now - started) / made * left
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"


def line(progress: Progress, estimate: str) -> str:
    """Format the kernel, its trials, the best time so far and its fraction of the limit."""
    if not progress.trials:
        return (
            f"[{progress.number}/{progress.tasks}] timing the default schedule of {progress.name}"
        )
    limit = progress.limit_fraction
    best = cost_text(progress.best_us, progress.measure)
    near = f", {limit:.0%} of the limit" if limit is not None else ""
    return (
        f"[{progress.number}/{progress.tasks}] {progress.name} ({progress.share:.1%} of an answer) "
        f"{progress.trial}/{progress.trials}: best {best}{near}{estimate}"
    )


def table(progress: Progress) -> str:
    """Format the table of tasks: kernel, calls in an answer, trials, best time, of the limit."""
    rows: list[tuple[str, ...]] = [HEAD]
    for task in progress.table:
        limit = f"{task.limit_fraction:.0%}" if task.limit_fraction is not None else "-"
        best = cost_text(task.best_us, progress.measure)
        rows.append((task.name, f"{task.weight:,}", f"{task.trials:,}", best, limit))
    return columns(rows)


@contextmanager
def tune_progress(stream: TextIO | None = None) -> Iterator[Callable[[Progress], object]]:
    """Yield the callback that reports progress."""
    stream = stream or sys.stderr
    if stream.isatty():
        with status(stream) as report:
            yield report
    else:
        yield PlainLines(stream)


class PlainLines:
    """Prints a line when a kernel begins, and every `QUIET_SECONDS` after that.

    The table of tasks is printed every `TABLE_SECONDS`, and with the last trial.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock, self._estimate = stream, clock, Estimate(clock)
        self._name, self._last = "", float("-inf")
        self._table = clock()

    def __call__(self, progress: Progress) -> None:
        estimate = self._estimate(progress.left) if progress.trials else ""
        now = self._clock()
        if progress.table and (now - self._table >= TABLE_SECONDS or not progress.left):
            self._table = now
            print(table(progress), file=self._stream, flush=True)
        same = progress.name == self._name or not progress.trials
        if same and now - self._last < QUIET_SECONDS:
            return
        self._name, self._last = progress.name, now
        print(line(progress, estimate), file=self._stream, flush=True)


@contextmanager
def status(stream: TextIO) -> Iterator[Callable[[Progress], object]]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    estimate = Estimate()
    spinner = Spinner("dots", "timing the default schedules")

    def update(progress: Progress) -> None:
        left = estimate(progress.left) if progress.trials else ""
        spinner.update(text=Text(line(progress, left)))
        shown = [Text(table(progress)), spinner] if progress.table else [spinner]
        display.update(Group(*shown))

    with Live(spinner, console=Console(file=stream), transient=True) as display:
        yield update
