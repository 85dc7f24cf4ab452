"""Two reports side by side: every figure that both have, and B over A."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .axes import bytes_text, ms_text, si
from .content import Content, Kernel, Phase
from .tables import Cell, table
from .tips import LIMITS, unit_of

UNITS: dict[str, Callable[[float], str]] = {
    "ms": ms_text,
    "B": bytes_text,
    "B/s": lambda rate: si(rate, "B/s"),
    "OP/s": lambda rate: si(rate, "OP/s"),
    "dB": lambda db: f"{db:.1f} dB",
}


@dataclass(frozen=True)
class Pair:
    """One figure of both; None: a side does not have it. `ratio` is B over A."""

    group: str
    name: str
    unit: str
    """A key of UNITS."""
    a: float | None
    b: float | None

    @property
    def ratio(self) -> float | None:
        return self.b / self.a if self.a and self.b and self.unit != "dB" else None

    def show(self, value: float | None) -> str:
        return "not measured" if value is None else UNITS[self.unit](value)


def pairs(a: Content, b: Content) -> Iterator[Pair]:
    """Steps, limits, memory and parity, in this order."""
    steps = [{name: p.step_ms.median for name, p in _phases(side).items()} for side in (a, b)]
    for name in _union(*steps):
        yield Pair("step", name, "ms", *(found.get(name) for found in steps))
    limits = [side.measured.limits if side.measured else {} for side in (a, b)]
    for probe in _union(*limits):
        rates = (found[probe].median if probe in found else None for found in limits)
        yield Pair("limit", LIMITS.get(probe, probe), unit_of(probe), *rates)
    for name in ("weights", "state", "workspace", "peak"):
        yield Pair("memory", name, "B", *(getattr(side.memory, name) for side in (a, b)))
    yield Pair("memory", "files", "B", a.bundle.file_bytes, b.bundle.file_bytes)
    stages = [{s.stage: s.snr_db for s in x.parity.stages} if x.parity else {} for x in (a, b)]
    for stage in _union(*stages):
        yield Pair("parity", stage, "dB", *(found.get(stage) for found in stages))


def kernel_pairs(a: Content, b: Content) -> Iterator[Pair]:
    """The time of each kernel, by phase; kernels are the same if their names are."""
    ours, others = _phases(a), _phases(b)
    for name in _union(ours, others):
        found = [_kernels(phases.get(name)) for phases in (ours, others)]
        for kernel in _union(*found):
            times = (kernels[kernel].ms if kernel in kernels else None for kernels in found)
            yield Pair(name, kernel, "ms", *times)


def pair_table(caption: str, found: Iterator[Pair], group: str) -> str:
    rows = (
        (
            Cell(pair.group),
            Cell(pair.name),
            Cell(pair.show(pair.a), _number(pair.a)),
            Cell(pair.show(pair.b), _number(pair.b)),
            Cell(ratio_text(pair.ratio), _number(pair.ratio)),
        )
        for pair in found
    )
    return table(caption, (group, "", "A", "B", "B / A"), rows)


def ratio_text(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


def _phases(side: Content) -> dict[str, Phase]:
    return {phase.phase: phase for phase in (side.measured.phases if side.measured else ())}


def _kernels(phase: Phase | None) -> dict[str, Kernel]:
    return {kernel.kernel: kernel for kernel in (phase.kernels if phase else ())}


def _union(*tables: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))
