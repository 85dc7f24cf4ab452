"""The roofline plot: every kernel as a measured point below the measured limits of the machine.

To the right, kernels that multiply: operations per byte against operations per second. To the left,
those that only move data, for which only the reading rate is a limit: bytes per second. The area
of a point is its share of the time of its step. A second report has hollow points and dashed roofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .axes import share_text
from .content import Content, Kernel
from .labels import Label, place_labels
from .plot import (
    BOTTOM,
    HEIGHT,
    PLOT,
    STRIP,
    TOP,
    WIDTH,
    Axes,
    axes_of,
    draw_frame,
    kernels_of,
)
from .roofs import draw_roofs, levels_of, slopes_of
from .svg import FONT, element, escaped, shortened, symbol, text
from .tips import achieved, bandwidth, conditions_of, intensity, tip_lines

SHAPES = ("circle", "square", "triangle")
LABELLED, LEAST_SHARE = 4, 0.06
"""Kernels of a phase whose names are written beside their points, and their least share."""


@dataclass(frozen=True)
class Point:
    """One kernel of one phase of one side, and where it is drawn."""

    kernel: Kernel
    phase: str
    number: int
    """Of the phase, which selects colour and shape."""
    side: int
    x: float
    y: float

    @property
    def radius(self) -> float:
        return 3.5 + 15 * min(1.0, self.kernel.share) ** 0.5


def draw_roofline(sides: Sequence[Content], heading: str = "") -> str:
    """The SVG element; `sides` has one report or two, of which some was measured."""
    points, axes = _layout(sides)
    taken = [(point.x, point.y, point.radius) for point in points]
    taken += [circle for slope in slopes_of(sides, axes) for circle in slope.taken()]
    lines = [(lv.x, lv.y - 1, float(PLOT[1]), lv.y + 1) for lv in levels_of(sides, axes)]
    labels = place_labels(_labels(points), taken, _area(), lines)
    parts = [
        draw_frame(axes),
        draw_roofs(sides, axes),
        *map(_dot, sorted(points, key=lambda point: -point.kernel.share)),
        *(_written(label) for label in labels),
        _head(sides, heading),
        _legend(points, len(sides)),
    ]
    return element(
        "svg",
        "\n".join(parts),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="picture roofline",
        role="group",
        aria_label="Roofline: achieved rate of every kernel against operations per byte",
        font_family=FONT,
    )


def _layout(sides: Sequence[Content]) -> tuple[list[Point], Axes]:
    found = [(side, *item) for side, content in enumerate(sides) for item in kernels_of(content)]
    computing = [kernel for *_, kernel in found if kernel.operations]
    moving = [kernel for *_, kernel in found if not kernel.operations]
    axes = axes_of(sides, computing, moving)
    points, columns = [], dict[int, int]()
    for side, number, phase, kernel in found:
        if kernel.operations:
            x, y = axes.intensity.place(intensity(kernel)), axes.rate.place(achieved(kernel))
        else:
            columns[number] = columns.get(number, 0) + 1
            x = _column(number, columns[number])
            y = axes.bandwidth.place(bandwidth(kernel))
        points.append(Point(kernel, phase.phase, number, side, x, y))
    return points, axes


def _column(number: int, count: int) -> float:
    """A place in the strip: a column per phase, in which points alternate around the middle."""
    width = (STRIP[1] - STRIP[0]) / len(SHAPES)
    shift = (-1, 0, 1)[count % 3] * width / 5
    return STRIP[0] + width * (number % len(SHAPES) + 0.5) + shift


def _area() -> tuple[float, float, float, float]:
    return PLOT[0], TOP, PLOT[1], BOTTOM


def _labels(points: Sequence[Point]) -> list[Label]:
    """The names to write, those with the largest share first; a name that both sides have is
    written beside the first."""
    found: dict[tuple[str, str], Point] = {}
    for point in _largest(points):
        found.setdefault((point.phase, point.kernel.kernel), point)
    return [
        Label(
            f"{shortened(point.kernel.kernel, 28)} {share_text(point.kernel.share)}",
            point.x,
            point.y,
            point.radius,
        )
        for point in found.values()
    ]


def _largest(points: Sequence[Point]) -> list[Point]:
    """Of each phase of each side, those with the largest shares."""
    found = []
    for phase in {(point.side, point.phase) for point in points}:
        mine = [p for p in points if (p.side, p.phase) == phase and p.kernel.operations]
        mine.sort(key=lambda point: -point.kernel.share)
        found += [point for point in mine[:LABELLED] if point.kernel.share >= LEAST_SHARE]
    return sorted(found, key=lambda p: (p.side, -p.kernel.share, p.kernel.kernel, p.phase))


def _written(label: Label) -> str:
    return text(label.left, label.baseline, label.words, class_="name")


def _dot(point: Point) -> str:
    shape = SHAPES[point.number % len(SHAPES)]
    tip = "\n".join(tip_lines(point.kernel, point.phase))
    hollow = " hollow" if point.side else ""
    return element(
        "path",
        element("title", escaped(tip)),
        d=symbol(shape, point.x, point.y, point.radius),
        class_=f"dot phase{point.number % len(SHAPES)}{hollow}",
        role="img",
        aria_label=tip.replace("\n", ", "),
        data_tip=tip,
    )


def _head(sides: Sequence[Content], heading: str) -> str:
    """Title and conditions, above the plot."""
    x = STRIP[0] - 40
    title = heading or "Every kernel against the limits of the machine"
    parts = [text(x, 30, title, class_="heading")]
    for number, side in enumerate(sides):
        name = f"{'AB'[number]}: " if len(sides) > 1 else ""
        words = shortened(f"{name}{conditions_of(side)}", 150)
        parts.append(text(x, 50 + 16 * number, words, class_="note"))
    return "".join(parts)


def _legend(points: Sequence[Point], sides: int) -> str:
    """Phases by shape and colour, and the two sides, in the upper right corner."""
    phases = dict.fromkeys((p.number % len(SHAPES), p.phase) for p in points if p.side == 0)
    phases = phases or dict.fromkeys((p.number % len(SHAPES), p.phase) for p in points)
    x, y, parts = PLOT[1] + 20.0, float(BOTTOM - 16 * (len(phases) + (4 if sides > 1 else 2))), []
    for number, name in phases:
        path = symbol(SHAPES[number], x + 5, y - 4, 5.5)
        parts.append(element("path", d=path, class_=f"dot phase{number}"))
        parts.append(text(x + 18, y, shortened(name, 20), class_="key"))
        y += 19
    notes = ["area: share of the step"]
    if sides > 1:
        notes = ["filled, solid: A", "hollow, dashed: B", *notes]
    for note in notes:
        parts.append(text(x, y + 3, note, class_="key faint"))
        y += 17
    return "".join(parts)
