"""A picture of what arrives at each layer: how the signal to noise falls from layer to layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from .bars import LEFT, WIDTH, db_text
from .content import Arrival
from .svg import FONT, element, escaped, line, path, shortened, text

HIGH, TOP, BOTTOM = 170, 26.0, 140.0
"""Pixels of a tower, and of the lines of its highest and lowest ratio in it."""
STEP_DB = 20


def draw_arrivals(arrivals: Sequence[Arrival]) -> str:
    """A plot for each tower: against the checkpoint, and against the weights as stored."""
    towers = [(name, list(rows)) for name, rows in groupby(arrivals, tower_of)]
    parts = [part for number, tower in enumerate(towers) for part in _tower(number, *tower)]
    height = len(towers) * HIGH + 26
    parts += _legend(height - 8)
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH} {height}",
        class_="picture arrivals",
        role="group",
        aria_label="Signal to noise of what arrives at each layer",
        font_family=FONT,
    )


def tower_of(arrival: Arrival) -> str:
    """The name of a layer without its number, that of a norm without its own name."""
    head, layers, _ = arrival.layer.partition(".layers.")
    return head if layers else arrival.layer.rpartition(".")[0]


def _tower(number: int, name: str, rows: Sequence[Arrival]) -> Iterator[str]:
    top = number * HIGH
    highest = _ceiling([db for row in rows for db in (row.snr_db, row.arithmetic_db) if db < 300])
    yield text(12, top + 80, shortened(name, 28), class_="key")
    for db in range(0, int(highest) + 1, STEP_DB if highest <= 80 else 2 * STEP_DB):
        y = top + _height(db, highest)
        yield line(LEFT, y, WIDTH, y, "grid")
        yield text(LEFT - 8, y + 4, f"{db} dB", class_="tick", text_anchor="end")
    places = [LEFT + 14 + (WIDTH - LEFT - 28) * n / max(1, len(rows) - 1) for n in range(len(rows))]
    for series, class_ in (("arithmetic_db", "arithmetic"), ("snr_db", "snr")):
        heights = [top + _height(getattr(row, series), highest) for row in rows]
        points = [part for x, y in zip(places, heights, strict=True) for part in ("L", x, y)]
        yield element("path", d=path("M", *points[1:]), class_="span")
        for row, x, y in zip(rows, places, heights, strict=True):
            yield _mark(row, x, y, class_)
    yield text(LEFT, top + BOTTOM + 16, rows[0].layer, class_="tick")
    if len(rows) > 1:
        last = rows[-1].layer
        yield text(WIDTH - 4, top + BOTTOM + 16, last, class_="tick", text_anchor="end")


def _ceiling(ratios: Sequence[float]) -> float:
    """The lowest line above all ratios, at least two lines."""
    return max(2, -(-max(ratios, default=0.0) // STEP_DB)) * STEP_DB


def _height(db: float, highest: float) -> float:
    """Of a ratio in its plot; an exact one is at the upper border."""
    return BOTTOM - (BOTTOM - TOP) * max(0.0, min(db, highest)) / highest


def _mark(row: Arrival, x: float, y: float, class_: str) -> str:
    tip = (
        f"what arrives at {row.layer}\n{db_text(row.snr_db)} against the checkpoint\n"
        f"{db_text(row.arithmetic_db)} against the weights as stored"
    )
    return element(
        "circle",
        element("title", escaped(tip)),
        cx=x,
        cy=y,
        r=4,
        class_=class_,
        role="img",
        aria_label=tip.replace("\n", ", "),
        data_tip=tip,
    )


def _legend(y: float) -> Iterator[str]:
    for x, class_, words in (
        (LEFT, "snr", "against the checkpoint"),
        (LEFT + 200, "arithmetic", "against the weights as stored"),
    ):
        yield element("circle", cx=x + 6, cy=y - 4, r=5, class_=class_)
        yield text(x + 20, y, words, class_="note")
