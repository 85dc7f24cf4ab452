"""Compares two bundles row by row, in rounds that hold a sample of every row of both.

The rows of a round come in random order, and so does who begins; the two samples of a row follow
each other directly. The rows and their limits are those of rows.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from .limits import Limits
from .ratios import compare
from .rows import Line, Row, Skipped
from .steps import spread

ROUNDS, QUICK_ROUNDS = 9, 6
SEED = 0


class Side(Protocol):
    """One of the two benchmarks."""

    limits: Limits
    lines: list[Line]

    def prepare(self) -> None: ...
    def sample(self, row: Row) -> None: ...
    def entry(self, line: Line) -> dict[str, Any]: ...


Progress = Callable[[str, int, int], object]


class Comparison:
    """`ours` against `other`; `report` returns the rows so far."""

    def __init__(self, ours: Side, other: Side) -> None:
        self.ours, self.other = ours, other
        self.limits = ours.limits
        self._pairs = list(_pairs(ours.lines, other.lines))

    def run(
        self,
        rounds: int,
        progress: Progress = lambda *_: None,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        """Take the samples; whatever ends it, those taken so far are kept.

        `between` is called before every round.
        """
        self.ours.prepare()
        self.other.prepare()
        plan, order = list(self._plan(rounds)), random.Random(SEED)
        for done, pairs in enumerate(plan):
            progress("compare", done, len(plan))
            between()
            self._round(pairs, order)
        progress("compare", len(plan), len(plan))

    def _plan(self, rounds: int) -> Iterator[list[tuple[Row, Row]]]:
        """For each round, the pairs of rows that both sides sample."""
        rows = [(a, b) for a, b in self._pairs if isinstance(a, Row) and isinstance(b, Row)]
        for number in range(rounds):
            yield [(a, b) for a, b in rows if a.wants(number)]

    def _round(self, pairs: Sequence[tuple[Row, Row]], order: random.Random) -> None:
        for ours, other in order.sample(pairs, len(pairs)):
            turns = [(self.ours, ours), (self.other, other)]
            for side, row in order.sample(turns, len(turns)):
                side.sample(row)

    def report(self) -> list[dict[str, Any]]:
        return [self._entry(ours, other) for ours, other in self._pairs]

    def _entry(self, ours: Line, other: Line) -> dict[str, Any]:
        sides = {"a": self.ours.entry(ours), "b": self.other.entry(other)}
        ratio = None
        if isinstance(ours, Row) and isinstance(other, Row):
            ratio = compare(ours.samples, other.samples)
        return {
            "row": ours.name,
            "unit": ours.unit,
            **{name: _figures(entry) for name, entry in sides.items()},
            "ratio": ratio and ratio.ratio,
            "low": ratio and ratio.low,
            "high": ratio and ratio.high,
            "rounds": ratio.rounds if ratio else 0,
            "verdict": ratio.verdict if ratio else "not measured",
            **_notes(ours, other, sides),
        }


def _pairs(ours: Sequence[Line], others: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """The rows of both by name, in the order of the first; one that a side lacks is skipped."""
    by_name = {line.name: line for line in others}
    for line in ours:
        yield (
            line,
            by_name.pop(line.name, Skipped(line.name, line.unit, "the bundle has no such row")),
        )
    for line in by_name.values():
        yield Skipped(line.name, line.unit, "the bundle has no such row"), line


def _figures(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in (*spread([]), "limit_fraction")}


def _notes(ours: Line, other: Line, sides: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Why a row was not measured, by side."""
    skipped = {"a": isinstance(ours, Skipped), "b": isinstance(other, Skipped)}
    notes = [f"{name.upper()}: {sides[name]['note']}" for name, is_one in skipped.items() if is_one]
    return {"note": "; ".join(notes)} if notes else {}
