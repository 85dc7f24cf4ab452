"""Rows of a benchmark: each is a step of a loaded bundle, compared with the machine's limit at that
time.

Rows are interleaved: one sample of every row, then the next sample of every row, so that a machine
that slows down affects all rows equally. The limit of a row is measured before and after each
sample; the fraction compares the medians of the two. An interrupted run reports every row with
fewer samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError

from ..bundle.probes import READ, arithmetic
from ..engine.calls import CompiledFunctions
from . import loading
from .limits import Limits
from .steps import spread

SAMPLES, QUICK_SAMPLES = 5, 2
ONCE_OR_TWICE = 2  # samples of the row that answers a whole question in a separate process


@dataclass
class Row:
    """One row of the report; `measure` returns the seconds (or bytes) of one sample."""

    name: str
    unit: str
    measure: Callable[[], float]
    count: float = 0.0
    """Tokens per sample, for rates; 0 if the sample itself is the figure."""
    work: float = 0.0
    """Operations or bytes per sample, depending on `limit`."""
    limit: str = ""
    """The probe to compare with; empty if there is none."""
    note: str = ""
    most: int | None = None
    """Maximum number of samples."""
    samples: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def wants(self, number: int) -> bool:
        """Whether the row is sampled in round `number`."""
        return self.most is None or number < self.most

    def figures(self) -> list[float]:
        """The samples in the row's unit."""
        if self.count:
            return [self.count / seconds for seconds in self.samples]
        return [value * (1e3 if self.unit == "ms" else 1.0) for value in self.samples]

    def fraction(self) -> float | None:
        """Achieved rate over the limit; None without a limit."""
        if not self.limits or not self.samples or not self.work:
            return None
        return self.work / float(np.median(self.samples)) / float(np.median(self.limits))


@dataclass(frozen=True)
class Skipped:
    name: str
    unit: str
    note: str


Line = Row | Skipped
Progress = Callable[[str, int, int], object]


class Prepared(Protocol):
    """The steps that rows measure."""

    def prepare(self) -> None: ...


class Rows(ABC):
    """All rows of one bundle; `run` samples them, `report` returns the results so far."""

    slow: tuple[str, ...] = ()
    """Rows that --quick skips."""
    asked = "question"
    """What the process whose memory is measured is asked."""

    def __init__(
        self,
        session: CompiledFunctions,
        steps: Prepared,
        path: Path,
        threads: int | None,
        quick: bool,
        device: str | None = None,
    ) -> None:
        self.loaded, self.manifest, self._warm = session, session.manifest, steps
        self.limits = Limits(session)
        schemes, features = session.manifest.scheme, session.manifest.target.features
        self._language, self._vision = (
            arithmetic(schemes.get(part, ""), features) for part in ("language", "vision")
        )
        self._path, self._threads, self._quick, self._device = path, threads, quick, device
        self.no_limits = self.limits.missing() or self._uncounted()
        self._loads: list[loading.Loading] = []
        self.lines: list[Line] = [line for line in self._lines() if self._wanted(line)]

    @abstractmethod
    def _lines(self) -> Iterator[Line]: ...

    @abstractmethod
    def _count(self) -> None:
        """Raise InputError if the manifest does not say how much work a row is."""

    def _uncounted(self) -> str:
        try:
            self._count()
        except InputError as error:
            return str(error)
        return ""

    def _wanted(self, line: Line) -> bool:
        return not (self._quick and line.name in self.slow)

    def run(
        self,
        samples: int,
        progress: Progress = lambda *_: None,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        """Take `samples` interleaved samples of each row; an interrupt keeps those taken so far.

        `between` is called before every round.
        """
        self.prepare()
        rows = [line for line in self.lines if isinstance(line, Row)]
        rounds = [[row for row in rows if row.wants(number)] for number in range(samples)]
        done, total = 0, sum(map(len, rounds))
        for sampled in rounds:
            between()
            for row in sampled:
                progress("measure", done, total)
                self.sample(row)
                done += 1
        progress("measure", total, total)

    def prepare(self) -> None:
        self._warm.prepare()

    def sample(self, row: Row) -> None:
        """Take one sample of the row, with its limit before and after."""
        self.loaded.worker.run(self._sample, row)

    def report(self) -> list[dict[str, Any]]:
        return [self.entry(line) for line in self.lines]

    def _row(
        self,
        name: str,
        unit: str,
        measure: Callable[[], float],
        limit: str,
        work: Callable[[], float],
        count: float = 0.0,
        note: str = "",
    ) -> Row:
        if self.no_limits or (unmeasured := self.limits.unmeasured(limit)):
            note = "; ".join(filter(None, [note, "" if self.no_limits else unmeasured]))
            return Row(name, unit, measure, count, note=note)
        return Row(name, unit, measure, count, work(), limit, note)

    def _process_rows(self) -> Iterator[Line]:
        """What a process of its own takes."""
        yield Row("load", "s", self._load, note="in a new process, files in the page cache")
        yield Row("peak_memory", "B", self._peak, most=ONCE_OR_TWICE)

    def _sample(self, row: Row) -> None:
        if row.limit:
            row.limits.append(self.limits.sample(row.limit))
        row.samples.append(row.measure())
        if row.limit:
            row.limits.append(self.limits.sample(row.limit))

    def _load(self) -> float:
        took = loading.measure(self._path, threads=self._threads, device=self._device)
        self._loads.append(took)
        return took.ready_s

    def _peak(self) -> float:
        return loading.measure(
            self._path, ask=True, threads=self._threads, device=self._device
        ).peak_bytes

    def entry(self, line: Line) -> dict[str, Any]:
        if isinstance(line, Skipped):
            nothing = {"min": None, "median": None, "p90": None, "limit_fraction": None}
            return {"row": line.name, "unit": line.unit, **nothing, "note": line.note}
        entry = {"row": line.name, "unit": line.unit, **spread(line.figures())}
        note = "; ".join(filter(None, [line.note, self._extra(line)]))
        return {
            **entry,
            "samples": len(line.samples),
            "limit": line.limit or None,
            "limit_fraction": line.fraction(),
            **({"note": note} if note else {}),
        }

    def _extra(self, row: Row) -> str:
        """A note that depends on the samples."""
        if row.name == "load" and self._loads:
            imported = float(np.median([took.imported_s for took in self._loads]))
            return f"including {imported:.2f} s for Python and its imports"
        if row.name == "peak_memory" and row.samples:
            size = sum(entry.size for entry in self.manifest.files.values())
            ratio = float(np.median(row.samples)) / size
            return f"loading and one {self.asked}; {ratio:.2f} times the bundle's {size} B"
        if row.limit == READ and (fraction := row.fraction()):
            each = row.work / row.count / 1e9
            return f"{fraction:.0%} of reading the {each:.3g} GB of each token"
        return self.no_limits if row.name not in ("load", "peak_memory") else ""
