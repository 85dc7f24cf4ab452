"""Encodes the tiles of a prompt: when they are wanted, once each, and remembers the latest."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..prompt.preprocess import Picture, Tile

TILES_KEPT = 32  # encoded ones; 64 rows of 1536 floats are 0.4 MB
FILES_KEPT = 16  # a tile of 448 x 448 pixels in float32 is 2.4 MB

Memory = OrderedDict[str, np.ndarray]  # digest -> features, the latest used at the end


class TilesOfFiles:
    """Picture -> tiles; those of a file are made once, until it changes.

    What is in memory may change without a trace, so that it is looked at every time: whoever shows
    it in several turns prepares it (`Model.prepare`).
    """

    def __init__(self, tiles_of: Callable[[Picture], list[Tile]]) -> None:
        self._tiles_of = tiles_of
        self._known: OrderedDict[tuple[object, ...], list[Tile]] = OrderedDict()

    def __call__(self, picture: Picture) -> list[Tile]:
        key = _file_key(picture)
        if key is None:
            return self._tiles_of(picture)
        if key not in self._known:
            self._known[key] = self._tiles_of(picture)
            while len(self._known) > FILES_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _file_key(picture: Picture) -> tuple[object, ...] | None:
    if not isinstance(picture, str | os.PathLike):
        return None
    try:
        found = Path(picture).stat()
    except (OSError, ValueError):  # whoever reads it says so in better words
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class VisionEngine(Protocol):
    """What encoding needs of a session."""

    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray: ...


class PictureEncoder:
    """Digest -> features: from what was encoded before, else from the session, with the time."""

    def __init__(
        self, session: VisionEngine, encoded: Memory, pictures: Sequence[Sequence[Tile]]
    ) -> None:
        self._session = session
        self._encoded = encoded
        self._pictures = pictures
        self._tiles = {tile.digest: tile for tiles in pictures for tile in tiles}
        self._ms: dict[str, float] = {}

    def __call__(self, digest: str) -> np.ndarray:
        if digest not in self._encoded:
            start = time.perf_counter()
            self._encoded[digest] = self._session.encode_image(*self._tiles[digest].arrays)
            self._ms[digest] = (time.perf_counter() - start) * 1e3
            while len(self._encoded) > TILES_KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(digest)
        return self._encoded[digest]

    @property
    def encode_ms(self) -> tuple[float, ...]:
        """Of each picture of the prompt, in order; a repeated tile costs nothing."""
        rest = dict(self._ms)
        return tuple(sum(rest.pop(tile.digest, 0.0) for tile in tiles) for tiles in self._pictures)

    @property
    def image_tokens(self) -> tuple[int, ...]:
        """Positions that each picture of the prompt takes, without what stands around its tiles."""
        return tuple(sum(tile.rows for tile in tiles) for tiles in self._pictures)
