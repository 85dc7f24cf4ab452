"""Benchmarks a loaded bundle row by row, each compared with the machine's limit at that time.

Rows are interleaved: one sample of every row, then the next sample of every row, so that a machine
that slows down affects all rows equally. The limit of a row is measured before and after each
sample; the fraction compares the medians of the two. An interrupted run reports every row with
fewer samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError

from ..bundle.probes import READ, arithmetic
from ..engine.session import Session
from . import loading, roofline
from .limits import Limits
from .steps import Steps, spread

SAMPLES, QUICK_SAMPLES = 5, 2
DECODED = 64  # tokens per sample of a decode row
QUESTION_TOKENS = 16
SLOW = ("pp512", "tg64@2048")  # rows that --quick skips
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


class Benchmark:
    """All rows of one bundle; `run` samples them, `report` returns the results so far."""

    def __init__(
        self,
        session: Session,
        path: Path,
        threads: int | None,
        quick: bool,
        device: str | None = None,
    ) -> None:
        self.session, self.manifest = session, session.manifest
        self.limits = Limits(session)
        schemes, features = session.manifest.scheme, session.manifest.target.features
        self._language, self._vision = (
            arithmetic(schemes.get(part, ""), features) for part in ("language", "vision")
        )
        self._path, self._threads, self._quick, self._device = path, threads, quick, device
        self.steps = Steps(session)
        self.no_limits = self.limits.missing() or self._count_shape()
        self._loads: list[loading.Loading] = []
        self.lines: list[Line] = [line for line in self._lines() if self._wanted(line)]

    def run(self, samples: int, progress: Progress = lambda *_: None) -> None:
        """Take `samples` interleaved samples of each row; an interrupt keeps those taken so far."""
        self.steps.prepare()
        rows = [line for line in self.lines if isinstance(line, Row)]
        order = [row for number in range(samples) for row in rows if row.wants(number)]
        for done, row in enumerate(order):
            progress("measure", done, len(order))
            self.session.worker.run(self._sample, row)
        progress("measure", len(order), len(order))

    def report(self) -> list[dict[str, Any]]:
        return [self._entry(line) for line in self.lines]

    def _count_shape(self) -> str:
        try:
            roofline.decode_params_bytes(self.manifest)
            roofline.prefill_flops(self.manifest, 1)
            if self.steps.reads_pictures:
                roofline.encode_flops(self.manifest)
        except InputError as error:
            return str(error)
        return ""

    def _wanted(self, line: Line) -> bool:
        return not (self._quick and line.name in SLOW)

    def _lines(self) -> Iterator[Line]:
        vision = self.manifest.vision
        if vision is not None:
            tile = f"one tile of {vision.image_size}x{vision.image_size}"
            yield self._row(
                "encode", "ms", self.steps.encode, self._vision, self._encode_flops, note=tile
            )
        for s in (64, 512):
            yield self._prefill_row(s)
        for pos in (0, 512, 2048):
            yield self._decode_row(pos)
        if vision is not None:
            yield self._first_token_row(f"one picture and {QUESTION_TOKENS} tokens")
        yield Row("load", "s", self._load, note="in a new process, files in the page cache")
        yield Row("peak_memory", "B", self._peak, most=ONCE_OR_TWICE)

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

    def _prefill_row(self, s: int) -> Line:
        name, context = f"pp{s}", self.session.context
        if context < s:
            return Skipped(name, "tok/s", f"needs a context of {s}, this bundle has {context}")
        ids = self.steps.ids(s)
        work = lambda: roofline.prefill_flops(self.manifest, s)  # noqa: E731
        return self._row(
            name, "tok/s", lambda: self.steps.prefill(ids), self._language, work, count=s
        )

    def _decode_row(self, pos: int) -> Line:
        name, context = f"tg{DECODED}@{pos}", self.session.context
        if context < pos + DECODED:
            needed = f"needs a context of {pos + DECODED}, this bundle has {context}"
            return Skipped(name, "tok/s", needed)
        steps = range(pos, pos + DECODED)
        work = lambda: sum(roofline.decode_bytes(self.manifest, p) for p in steps)  # noqa: E731
        return self._row(
            name, "tok/s", lambda: self.steps.decode(pos, DECODED), READ, work, count=DECODED
        )

    def _first_token_row(self, note: str) -> Line:
        s, context = self.steps.picture_rows() + QUESTION_TOKENS, self.session.context
        if context < s:
            return Skipped("ttft", "ms", f"needs a context of {s}, this bundle has {context}")
        ids = self.steps.ids(QUESTION_TOKENS)

        def work() -> float:
            encode = self._encode_flops() * self.steps.picture_tiles()
            return encode + roofline.prefill_flops(self.manifest, s)

        measure = lambda: self.steps.first_token(ids)  # noqa: E731
        return self._row("ttft", "ms", measure, self._vision, work, note=note)

    def _sample(self, row: Row) -> None:
        if row.limit:
            row.limits.append(self.limits.sample(row.limit))
        row.samples.append(row.measure())
        if row.limit:
            row.limits.append(self.limits.sample(row.limit))

    def _encode_flops(self) -> float:
        return roofline.encode_flops(self.manifest)

    def _load(self) -> float:
        took = loading.measure(self._path, threads=self._threads, device=self._device)
        self._loads.append(took)
        return took.ready_s

    def _peak(self) -> float:
        return loading.measure(
            self._path, ask=True, threads=self._threads, device=self._device
        ).peak_bytes

    def _entry(self, line: Line) -> dict[str, Any]:
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
            asked = "question" if self.manifest.vision is None else "picture question"
            return f"loading and one {asked}; {ratio:.2f} times the bundle's {size} B"
        if row.limit == READ and (fraction := row.fraction()):
            each = row.work / row.count / 1e9
            return f"{fraction:.0%} of reading the {each:.3g} GB of each token"
        return self.no_limits if row.name not in ("load", "peak_memory") else ""
