"""The roofs of the plot: the measured limits of each machine, with their rates.

The rate of reading is a slope, that of each arithmetic a level from where it meets the slope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import atan2, degrees

from ..bundle.probes import READ
from .axes import bytes_text, si, spread_out
from .content import Content
from .plot import PLOT, STRIP, Axes, rates
from .svg import line, text
from .tips import LIMITS

GAP = 15
"""Pixels between the names of two levels."""
PLACES = (0.2, 0.55)
"""Where along the slope its rate is written, for each side."""
ABOVE, ADVANCE = 7.0, 6.5
"""Pixels between the slope and its words, and of an average character."""


@dataclass(frozen=True)
class Level:
    """The roof of one arithmetic of one side."""

    side: int
    name: str
    rate: float
    x: float
    """Where it meets the slope."""
    y: float


@dataclass(frozen=True)
class Slope:
    """The roof of reading of one side, from (x1, y1) to (x2, y2)."""

    side: int
    rate: float
    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def words(self) -> str:
        return f"reads {bytes_text(self.rate)}/s"

    def along(self, part: float) -> tuple[float, float]:
        return self.x1 + (self.x2 - self.x1) * part, self.y1 + (self.y2 - self.y1) * part

    def taken(self) -> Iterator[tuple[float, float, float]]:
        """Circles (x, y, radius) that cover the words."""
        x, y = self.along(PLACES[self.side])
        angle = atan2(self.y2 - self.y1, self.x2 - self.x1)
        across, down = abs(self.x2 - self.x1), self.y2 - self.y1
        length = (across**2 + down**2) ** 0.5 or 1.0
        for step in range(int(len(self.words) * ADVANCE / 8) + 1):
            away = step * 8.0
            yield x + away * across / length + ABOVE * angle, y + away * down / length - ABOVE, 9.0


def slopes_of(sides: Sequence[Content], axes: Axes) -> list[Slope]:
    return [_slope(number, rates(side), axes) for number, side in enumerate(sides) if _reads(side)]


def levels_of(sides: Sequence[Content], axes: Axes) -> list[Level]:
    return [level for number, side in enumerate(sides) for level in _levels(number, side, axes)]


def draw_roofs(sides: Sequence[Content], axes: Axes) -> str:
    """All roofs of all sides, so that no two names overlap."""
    levels = levels_of(sides, axes)
    places = spread_out([level.y for level in levels], GAP)
    parts = [part for slope in slopes_of(sides, axes) for part in _draw_slope(slope, axes)]
    for level, at in zip(levels, places, strict=True):
        other = _other(level.side)
        words = f"{LIMITS[level.name]} {si(level.rate, 'OP/s')}"
        parts.append(line(level.x, level.y, PLOT[1], level.y, f"roof{other}"))
        parts.append(line(PLOT[1], level.y, PLOT[1] + 10, at, f"lead{other}"))
        parts.append(text(PLOT[1] + 14, at + 4, words, class_=f"limit{other}"))
    return "".join(parts)


def _levels(number: int, side: Content, axes: Axes) -> Iterator[Level]:
    found = rates(side)
    for name, rate in found.items():
        if name != READ:
            x = axes.intensity.place(rate / found[READ]) if READ in found else float(PLOT[0])
            yield Level(number, name, rate, x, axes.rate.place(rate))


def _slope(number: int, found: dict[str, float], axes: Axes) -> Slope:
    """As far as the highest level, within the plot."""
    rate = found[READ]
    low = max(axes.intensity.low, axes.rate.low / rate)
    highest = max((other for name, other in found.items() if name != READ), default=axes.rate.high)
    high = min(axes.intensity.high, max(highest / rate, low))
    ends = [(axes.intensity.place(at), axes.rate.place(at * rate)) for at in (low, high)]
    return Slope(number, rate, *ends[0], *ends[1])


def _draw_slope(slope: Slope, axes: Axes) -> Iterator[str]:
    """In both panels, with its rate."""
    other, y = _other(slope.side), axes.bandwidth.place(slope.rate)
    yield line(STRIP[0], y, STRIP[1], y, f"roof{other}")
    yield line(slope.x1, slope.y1, slope.x2, slope.y2, f"roof{other}")
    x, middle = slope.along(PLACES[slope.side])
    angle = degrees(atan2(slope.y2 - slope.y1, slope.x2 - slope.x1))
    turn = f"rotate({angle:.2f} {x:.1f} {middle:.1f})"
    yield text(x, middle - ABOVE, slope.words, class_=f"limit{other}", transform=turn)


def _reads(side: Content) -> bool:
    return READ in rates(side)


def _other(side: int) -> str:
    """The class of the second side."""
    return " other" if side else ""
