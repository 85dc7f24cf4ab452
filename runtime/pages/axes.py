"""Logarithmic axes: from values to places, and the values at which lines are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True)
class LogAxis:
    """Maps `low`..`high`, both positive, to the places `start`..`end` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Values outside are placed at the border."""
        span = math.log(self.high / self.low)
        part = math.log(max(value, self.low) / self.low) / span
        return self.start + min(1.0, part) * (self.end - self.start)

    def decades(self) -> Iterator[float]:
        """Powers of ten within the axis."""
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        yield from (10.0**power for power in range(first, last + 1))

    def between(self) -> Iterator[float]:
        """2, 5, 20, 50 and so on."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for power in range(first, last + 1):
            for factor in (2, 5):
                if self.low <= (value := factor * 10.0**power) <= self.high:
                    yield value


def around(values: Sequence[float], start: float, end: float, margin: float = 1.6) -> LogAxis:
    """An axis with room on both sides of all values that are positive."""
    positive = [value for value in values if value > 0] or [1.0]
    return LogAxis(min(positive) / margin, max(positive) * margin, start, end)


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart, in the order of the wanted ones and near them."""
    order = sorted(range(len(wanted)), key=lambda item: wanted[item])
    places = [float(place) for place in wanted]
    for _ in range(50):
        moved = False
        for a, b in pairwise(order):
            if (short := gap - (places[b] - places[a])) > 1e-6:
                places[a] -= short / 2
                places[b] += short / 2
                moved = True
        if not moved:
            break
    return places


def si(value: float, unit: str = "") -> str:
    """Three significant digits with a prefix: 2.07 TOP/s."""
    for factor, prefix in PREFIXES:
        if abs(value) >= factor * 0.9995:
            return f"{digits(value / factor)} {prefix}{unit}".strip()
    return f"{value:.2g} {unit}".strip()


def tick(value: float) -> str:
    """As few digits as it takes: 20 G, 0.5."""
    for factor, prefix in PREFIXES:
        if value >= factor:
            return f"{value / factor:g} {prefix}".strip()
    return f"{value:g}"


def digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-12))
    text = f"{value:.{min(places, 12)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and abs(value) < 1 else text


def bytes_text(count: float) -> str:
    """Decimal units, as `handglass inspect` prints them."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{digits(count)} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{digits(count)} GB"


def ms_text(ms: float) -> str:
    if ms >= 999.5:
        return f"{digits(ms / 1000)} s"
    return f"{digits(ms)} ms" if ms >= 0.1 or ms == 0 else f"{digits(ms * 1000)} µs"


def share_text(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"
