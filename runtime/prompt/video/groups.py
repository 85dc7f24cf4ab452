"""Frames of a video that share the rows of one tile."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..preprocess import Tile


@dataclass(frozen=True, eq=False)
class FrameGroup:
    """Takes the place of a tile in a prompt; `Session.encode_frames` encodes it."""

    frames: tuple[Tile, ...]
    times: tuple[int, ...]

    @property
    def role(self) -> str:
        return self.frames[0].role

    @property
    def rows(self) -> int:
        """Embedding rows that all frames produce together."""
        return self.frames[0].rows

    @property
    def height(self) -> int:
        """Of the first frame, in patches."""
        return self.frames[0].height

    @property
    def width(self) -> int:
        """Of the first frame, in patches."""
        return self.frames[0].width

    @cached_property
    def digest(self) -> str:
        """A hash of the frames and their times."""
        parts = (f"{f.digest}@{t}" for f, t in zip(self.frames, self.times, strict=True))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def frame_count(tiles: Sequence[Tile | FrameGroup]) -> int:
    """How many frames a picture of these tiles shows: one, or those of a group."""
    return max(len(t.frames) if isinstance(t, FrameGroup) else 1 for t in tiles)
