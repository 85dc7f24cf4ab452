"""The frame of the roofline plot: its two panels, their logarithmic axes and the grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..bundle.probes import READ
from .axes import LogAxis, around, tick
from .content import Content, Kernel, Phase
from .svg import element, line, path, text
from .tips import LIMITS, achieved, bandwidth, intensity

WIDTH, HEIGHT = 1080, 632
TOP, BOTTOM = 96, HEIGHT - 62
STRIP = 64, 214
"""Left and right border of the kernels that only move data."""
PLOT = 284, 892
DECADES = 1e7
"""An axis spans at most this ratio; what is farther out is drawn at the border."""


@dataclass(frozen=True)
class Axes:
    intensity: LogAxis
    rate: LogAxis
    bandwidth: LogAxis


def rates(side: Content) -> dict[str, float]:
    """The measured limits: probe -> median rate per second."""
    limits = side.measured.limits if side.measured else {}
    found = {name: spread.median for name, spread in limits.items() if name in LIMITS}
    return {name: rate for name, rate in found.items() if rate}


def kernels_of(side: Content) -> Iterator[tuple[int, Phase, Kernel]]:
    """Every kernel whose bytes are known, with the number of its phase."""
    for number, phase in enumerate(side.measured.phases if side.measured else ()):
        for kernel in phase.kernels:
            if kernel.bytes and kernel.ms:
                yield number, phase, kernel


def axes_of(
    sides: Sequence[Content], computing: Sequence[Kernel], moving: Sequence[Kernel]
) -> Axes:
    roofs = [rates(side) for side in sides]
    tops = [rate for roof in roofs for name, rate in roof.items() if name != READ]
    ridges = [
        rate / roof[READ] for roof in roofs if READ in roof for n, rate in roof.items() if n != READ
    ]
    reads = [roof[READ] for roof in roofs if READ in roof]
    return Axes(
        _bounded([*map(intensity, computing), *ridges], *PLOT),
        _bounded([*map(achieved, computing), *tops], BOTTOM, TOP),
        _bounded([*map(bandwidth, moving), *reads], BOTTOM, TOP),
    )


def _bounded(values: Sequence[float], start: float, end: float) -> LogAxis:
    highest = max(values, default=1.0)
    return around([value for value in values if value > highest / DECADES], start, end)


def draw_frame(axes: Axes) -> str:
    """Grid, axes and their titles."""
    parts = []
    for value in axes.intensity.between():
        parts.append(line(x := axes.intensity.place(value), TOP, x, BOTTOM, "grid minor"))
    for value in axes.intensity.decades():
        x = axes.intensity.place(value)
        parts.append(line(x, TOP, x, BOTTOM, "grid"))
        parts.append(text(x, BOTTOM + 19, tick(value), class_="tick", text_anchor="middle"))
    parts += _scale(axes.rate, PLOT, "OP/s") + _scale(axes.bandwidth, STRIP, "B/s")
    for left, right in (STRIP, PLOT):
        box = path("M", left, TOP, "V", BOTTOM, "H", right)
        parts.append(element("path", d=box, class_="axis"))
    middle = (PLOT[0] + PLOT[1]) / 2
    parts.append(
        text(middle, BOTTOM + 43, "operations per byte", class_="title", text_anchor="middle")
    )
    only = (STRIP[0] + STRIP[1]) / 2
    parts.append(text(only, BOTTOM + 19, "no multiply-adds", class_="tick", text_anchor="middle"))
    parts.append(text(only, BOTTOM + 43, "move data only", class_="title", text_anchor="middle"))
    return "".join(parts)


def _scale(axis: LogAxis, borders: tuple[int, int], unit: str) -> list[str]:
    left, right = borders
    parts = [line(left, y := axis.place(v), right, y, "grid minor") for v in axis.between()]
    values = list(axis.decades())
    values = values if len(values) > 1 else sorted([*values, *axis.between()])
    for value in values:
        y = axis.place(value)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(text(left - 8, y + 4, tick(value), class_="tick", text_anchor="end"))
    parts.append(text(left - 8, TOP - 12, unit, class_="title", text_anchor="end"))
    return parts
