"""The bytes of generated tokens; those of a marker of thoughts even if it is a special token."""

from __future__ import annotations

from ..bundle.entries import Around
from ..prompt.tokenizer import Tokenizer


class Surfaces:
    """Token id -> bytes."""

    def __init__(self, tokenizer: Tokenizer, thoughts: Around) -> None:
        self._tokenizer = tokenizer
        markers = filter(None, (thoughts.before, thoughts.after))
        ids = ((tokenizer.marker_ids(marker), marker.encode()) for marker in markers)
        self._markers = {one[0]: text for one, text in ids if len(one) == 1}

    def __call__(self, token: int) -> bytes:
        return self._markers.get(token) or self._tokenizer.surface(token)
