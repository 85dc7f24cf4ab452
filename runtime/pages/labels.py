"""Places names beside points, so that none covers another name or a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

ADVANCE, HEIGHT = 6.3, 13.0
"""Pixels of an average character in the font of names, and of a line."""

APART = 4.0
"""Pixels between a name and what is beside it."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""


@dataclass(frozen=True)
class Label:
    """`words` belong to the point (x, y) with this radius; the text begins at (left, baseline)."""

    words: str
    x: float
    y: float
    radius: float
    left: float = 0.0
    baseline: float = 0.0

    @property
    def box(self) -> Box:
        width = len(self.words) * ADVANCE
        return self.left, self.baseline - HEIGHT + 3, self.left + width, self.baseline + 3


def place_labels(
    labels: Sequence[Label],
    points: Sequence[tuple[float, float, float]],
    area: Box,
    lines: Sequence[Box] = (),
) -> list[Label]:
    """The labels that find a free place, earlier ones first; `points` are (x, y, radius).

    A label covers one of `lines` only if no other place is free.
    """
    taken = [(x - r, y - r, x + r, y + r) for x, y, r in points]
    placed: list[Label] = []
    for label in labels:
        free = [found for found in _candidates(label) if _is_free(found.box, area, taken)]
        clear = [found for found in free if _is_free(found.box, area, lines)]
        for chosen in (clear or free)[:1]:
            placed.append(chosen)
            taken.append(chosen.box)
    return placed


def _is_free(box: Box, area: Box, taken: Sequence[Box]) -> bool:
    inside = area[0] <= box[0] and area[1] <= box[1] and box[2] <= area[2] and box[3] <= area[3]
    return inside and not any(_overlap(box, other) for other in taken)


def _candidates(label: Label) -> Iterator[Label]:
    """To the right, to the left, below and above."""
    width, away = len(label.words) * ADVANCE, label.radius + 5
    for left, baseline in (
        (label.x + away, label.y + 4),
        (label.x - away - width, label.y + 4),
        (label.x - width / 2, label.y + away + 9),
        (label.x - width / 2, label.y - away),
        (label.x + away, label.y + away + 4),
        (label.x - away - width, label.y + away + 4),
    ):
        yield replace(label, left=left, baseline=baseline)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] + APART and b[0] < a[2] + APART and a[1] < b[3] and b[1] < a[3]
