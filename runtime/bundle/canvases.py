"""Canvases of tiles that a vision tower encodes together, as compiler and runtime count them."""

from __future__ import annotations

import functools

UNIT = 8
"""The rows of a tile are padded to a multiple of it."""


@functools.cache
def arrangements(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of all canvases of at most `max_tiles` tiles, in the order of their ids."""
    sizes = range(1, max_tiles + 1)
    return tuple((a, b) for a in sizes for b in sizes if a * b <= max_tiles)


def padded(rows: int) -> int:
    """Rows of a tile, with those of padding: at least one, as a class token follows a square."""
    return -(-rows // UNIT) * UNIT
