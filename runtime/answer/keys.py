"""The content of a prompt, position by position."""

from __future__ import annotations

from ..prompt.chat_template import Prompt, Slot
from ..prompt.preprocess import Tile
from ..prompt.video.groups import FrameGroup
from .generate import Key


def keys_of(prompt: Prompt) -> list[Key]:
    """One key per cache position: a token id, or (digest, row) of a tile."""
    keys: list[Key] = []
    for segment in prompt.segments:
        if isinstance(segment, Slot):
            tile: Tile | FrameGroup = prompt.pictures[segment.picture][segment.tile]
            keys.extend((tile.digest, row) for row in range(tile.rows))
        else:
            keys.extend(segment.ids)
    return keys
