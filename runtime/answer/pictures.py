"""Encodes the tiles of a prompt on demand, once each, and caches the most recent ones."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..prompt.chat_template import Prompt
from ..prompt.preprocess import Picture, Tile, TilesOf
from ..prompt.video.groups import FrameGroup, frame_count
from ..system.file_state import file_state, is_settled

TILES_KEPT = 32  # encoded tiles; 64 rows of 1536 floats take 0.4 MB
BYTES_KEPT = 1 << 29  # of them; the last one is kept whatever its size
CUT_TILES_KEPT = 16  # tiles of files; one of 448 x 448 pixels is 0.6 MB


class Memory(OrderedDict[str, np.ndarray]):
    """Digest of a tile -> (rows, hidden_size) float32, most recently used last."""

    def __init__(self, limit: int = TILES_KEPT) -> None:
        super().__init__()
        self.limit = limit  # tiles

    def forget(self) -> None:
        """Drop the tiles beyond the limits that were used least recently."""
        while len(self) > self.limit or (len(self) > 1 and self.nbytes > BYTES_KEPT):
            self.popitem(last=False)

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in list(self.values()))  # another thread may add some


class TilesOfFiles:
    """Picture -> tiles. The tiles of a file are cached until the file changes.

    A picture in memory can change without notice, so it is preprocessed at every call; prepare one
    that is shown in several turns with `Model.prepare`.
    """

    def __init__(self, tiles_of: TilesOf) -> None:
        self._tiles_of = tiles_of
        self._known: OrderedDict[tuple[int | None, ...], list[Tile]] = OrderedDict()

    def __call__(self, picture: Picture, max_slices: int | None = None) -> list[Tile]:
        state = _settled_state(picture)
        if state is None:
            return self._tiles_of(picture, max_slices)
        key = (max_slices, *state)
        if key not in self._known:
            self._known[key] = self._tiles_of(picture, max_slices)
            self._forget()
        self._known.move_to_end(key)
        return self._known[key]

    def _forget(self) -> None:
        """Drop the oldest files until few tiles are left, or the newest file alone."""
        while len(self._known) > 1 and sum(map(len, self._known.values())) > CUT_TILES_KEPT:
            self._known.popitem(last=False)


def _settled_state(picture: Picture) -> tuple[int, ...] | None:
    """The state of a picture file, or None if an unchanged state would not prove it unchanged."""
    if not isinstance(picture, str | os.PathLike):
        return None
    try:
        stat = Path(picture).stat()
    except (OSError, ValueError):  # reading the file reports it
        return None
    return tuple(file_state(stat).values()) if is_settled(stat) else None


class VisionEngine(Protocol):
    """The part of a session that encodes tiles."""

    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray: ...
    def encode_frames(
        self, frames: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], times: Sequence[int]
    ) -> np.ndarray: ...


class PictureEncoder:
    """Maps digests to features, from the cache or else from the session; records the times.

    `report` is called with the number of tiles encoded and to encode: before the first and after
    each. `check` is called before each; what it raises ends the answer.
    """

    def __init__(self, session: VisionEngine, encoded: Memory, prompt: Prompt) -> None:
        self._session = session
        self._encoded = encoded
        self._prompt = prompt
        self._pictures: list[list[Tile | FrameGroup]] = [
            [tile for number in numbers for tile in prompt.pictures[number]]
            for numbers in prompt.shown
        ]
        self._tiles = {tile.digest: tile for tiles in self._pictures for tile in tiles}
        self._ms: dict[str, float] = {}
        self._missing = sum(digest not in encoded for digest in self._tiles)
        self.report: Callable[[int, int], None] = lambda done, total: None
        self.check: Callable[[], None] = lambda: None

    def __call__(self, digest: str) -> np.ndarray:
        if digest not in self._encoded:
            self.check()
            if not self._ms:
                self._report()
            start = time.perf_counter()
            self._encoded[digest] = self._encode(self._tiles[digest])
            self._ms[digest] = (time.perf_counter() - start) * 1e3
            self._report()
            self._encoded.forget()
        self._encoded.move_to_end(digest)
        return self._encoded[digest]

    def _encode(self, tile: Tile | FrameGroup) -> np.ndarray:
        if isinstance(tile, FrameGroup):
            return self._session.encode_frames([f.arrays for f in tile.frames], tile.times)
        return self._session.encode_image(*tile.arrays)

    def _report(self) -> None:
        done = len(self._ms)
        self.report(done, max(done, self._missing))  # more if another answer has evicted some

    @property
    def encode_ms(self) -> tuple[float, ...]:
        """Milliseconds per picture or video, in order; a repeated tile counts once."""
        rest = dict(self._ms)
        return tuple(sum(rest.pop(tile.digest, 0.0) for tile in tiles) for tiles in self._pictures)

    @property
    def image_tokens(self) -> tuple[int, ...]:
        """Positions per picture or video of the prompt, without the markers around its tiles."""
        return tuple(sum(tile.rows for tile in tiles) for tiles in self._pictures)

    @property
    def video_frames(self) -> tuple[int, ...]:
        """Frames shown of each video; 0 for a picture."""
        pictures, videos = self._prompt.pictures, self._prompt.videos
        return tuple(
            sum(frame_count(pictures[number]) for number in numbers) if numbers in videos else 0
            for numbers in self._prompt.shown
        )
