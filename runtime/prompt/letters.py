"""Measures the letters of a small picture, to decide whether enlarging it would help.

MiniCPM-OCR was trained with this rule: dark and light are separated by Otsu's threshold, what
covers less of the picture is ink, and each 8-connected component of ink is a letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

LETTER_HEIGHT = 12.0
"""Pixels; the median of small letters is at most this."""
DENSITY = 2.0
"""Letters per 1,000 pixels of dense text, at least."""
TINY_PIXELS, TINY = 6272, 84
"""Pictures of fewer pixels, and the resolution to which they are enlarged."""
FRAME = 0.9
"""Components of this share of a side are frames and lines, not letters."""
LEAST_PIXELS, LEAST_HEIGHT = 3, 2
"""Smaller components are noise."""
EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Components:
    """Widths, heights and numbers of pixels of the components."""

    widths: np.ndarray
    heights: np.ndarray
    areas: np.ndarray


def wanted_resolution(picture: Image.Image, resolution: int) -> int | None:
    """The resolution to which an RGB picture is enlarged; None: it keeps its own."""
    gray = np.asarray(picture.convert("L"))
    heights = letter_heights(gray)
    typical = float(np.median(heights)) if len(heights) else 0.0
    if 0 < typical <= LETTER_HEIGHT and len(heights) * 1000 / gray.size >= DENSITY:
        return resolution
    return TINY if gray.size < TINY_PIXELS else None


def letter_heights(gray: np.ndarray) -> np.ndarray:
    """Heights of the letters of a picture (h, w) uint8."""
    ink = gray <= otsu_threshold(gray)
    if ink.mean() > 0.5:
        ink = ~ink
    found, (height, width) = components(ink), gray.shape
    is_letter = (found.areas >= LEAST_PIXELS) & (found.heights >= LEAST_HEIGHT)
    is_letter &= (found.widths < FRAME * width) & (found.heights < FRAME * height)
    return found.heights[is_letter]


def otsu_threshold(gray: np.ndarray) -> int:
    """The largest value of the dark class, which separates the two classes best.

    Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076. In the order of OpenCV's additions, as
    nearly equal variances occur.
    """
    shares = np.bincount(gray.ravel(), minlength=256) * (1 / gray.size)
    mean = float((np.arange(256) * shares).cumsum()[-1])
    dark, dark_mean, best, largest = 0.0, 0.0, 0, 0.0
    for value, share in enumerate(shares.tolist()):
        dark_mean *= dark
        dark += share
        light = 1 - dark
        if min(dark, light) < EPSILON:
            continue
        dark_mean = (dark_mean + value * share) / dark
        light_mean = (mean - dark * dark_mean) / light
        variance = dark * light * (dark_mean - light_mean) ** 2
        if variance > largest:
            best, largest = value, variance
    return best


def components(ink: np.ndarray) -> Components:
    """The 8-connected components of a mask (h, w)."""
    width = ink.shape[1] + 1  # with a column between the rows, so that no run crosses them
    flat = np.pad(ink, ((0, 0), (0, 1))).ravel().astype(np.int8)
    steps = np.diff(flat, prepend=np.int8(0))
    first, last = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    labels = _joined(len(first), *_touching(first, last, width))
    _, group = np.unique(labels, return_inverse=True)
    rows, left, right = first // width, first % width, last % width
    size = int(group.max(initial=-1)) + 1
    return Components(
        widths=_extent(group, left, right, size),
        heights=_extent(group, rows, rows, size),
        areas=np.bincount(group, last - first + 1, size),
    )


def _touching(first: np.ndarray, last: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs in adjacent rows that touch, also at their corners."""
    begin = np.searchsorted(last, first + width - 1, side="left")
    counts = np.maximum(np.searchsorted(first, last + width + 1, side="right") - begin, 0)
    upper = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(upper)) - np.repeat(counts.cumsum() - counts, counts)
    return upper, np.repeat(begin, counts) + within


def _joined(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A label for each of `count` items, the same for all that pairs connect.

    Each round hooks labels onto smaller ones of their neighbours, then follows them to the end.
    """
    labels = np.arange(count)
    while np.any(labels[one] != labels[other]):
        low, high = np.minimum(labels[one], labels[other]), np.maximum(labels[one], labels[other])
        np.minimum.at(labels, high, low)
        while np.any(labels != labels[labels]):
            labels = labels[labels]
    return labels


def _extent(group: np.ndarray, low: np.ndarray, high: np.ndarray, size: int) -> np.ndarray:
    """For each group, the number of places from its lowest to its highest one."""
    least, most = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(least, group, low)
    np.maximum.at(most, group, high)
    return most - least + 1
