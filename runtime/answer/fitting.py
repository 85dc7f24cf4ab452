"""Refuses a prompt that the context cannot hold, before any picture is encoded."""

from __future__ import annotations

from collections.abc import Sequence

from ..prompt.preprocess import Tile
from .generate import ContextFullError


def check_fits(needed: int, context: int, pictures: Sequence[Sequence[Tile]]) -> None:
    """Raise ContextFullError unless the context holds `needed` tokens.

    `pictures` are the tiles whose rows are part of them.
    """
    if needed <= context:
        return
    rows = sum(tile.rows for tiles in pictures for tile in tiles)
    if not rows:
        raise ContextFullError(needed, context)
    count = f"{len(pictures)} picture{'' if len(pictures) == 1 else 's'}"
    of_it = f" ({rows} of them for {count})"
    # A picture without slices takes as many tokens as its overview.
    slices = sum(tile.rows for tiles in pictures for tile in tiles[1:])
    fits = slices > 0 and needed - slices <= context
    how = (
        f"lower --max-slices (1 leaves {needed - slices} tokens)" if fits else "shorten the prompt"
    )
    raise ContextFullError(needed, context, of_it, how)
