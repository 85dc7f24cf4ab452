"""Refuses a prompt that the context cannot hold, before any picture is encoded."""

from __future__ import annotations

from collections.abc import Sequence

from ..prompt.preprocess import Tile
from ..prompt.video.groups import FrameGroup, frame_count
from .generate import ContextFullError

Pictures = Sequence[Sequence[Tile | FrameGroup]]


def check_fits(needed: int, context: int, pictures: Pictures, videos: Sequence[range] = ()) -> None:
    """Raise ContextFullError unless the context holds `needed` tokens.

    `pictures` are the tiles whose rows are part of them, `videos` the pictures that are frames.
    """
    if needed <= context:
        return
    rows = _rows(pictures)
    if not rows:
        raise ContextFullError(needed, context)
    frames = [pictures[i] for video in videos for i in video]
    of_it = f" ({rows} of them for {_counted(pictures, frames, len(videos))})"
    # A picture without slices takes as many tokens as its overview.
    slices = _rows([tiles[1:] for tiles in pictures])
    if slices and needed - slices <= context:
        how = f"lower --max-slices (1 leaves at most {needed - slices} tokens)"
    elif most := _frames_that_fit(needed - context, frames, len(videos)):
        how = f"lower --frames (to {most})"
    else:
        how = "shorten the prompt"
    raise ContextFullError(needed, context, of_it, how)


def _rows(pictures: Pictures) -> int:
    return sum(tile.rows for tiles in pictures for tile in tiles)


def _counted(pictures: Pictures, frames: Pictures, videos: int) -> str:
    alone = len(pictures) - len(frames)
    parts = [_plural(alone, "picture")] if alone else []
    if videos:
        shown = _plural(sum(map(frame_count, frames)), "frame")
        parts.append(f"{shown} of {_plural(videos, 'video')}")
    return " and ".join(parts)


def _plural(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _frames_that_fit(over: int, frames: Pictures, videos: int) -> int:
    """Frames per video with which the prompt loses `over` tokens; 0 if there is no such number."""
    if not frames:
        return 0
    dropped = -(-over // min(_rows([tiles]) for tiles in frames))
    return max(len(frames) - dropped, 0) // videos * max(map(frame_count, frames))
