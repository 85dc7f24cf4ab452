"""Decodes the bytes of tokens into pieces of text that never split a character.

The byte tokens of a character arrive one by one; the character is emitted when complete. Bytes that
cannot become a character are replaced by U+FFFD. The text ends before the first stop string.
Thoughts are kept apart from the text, and stop strings in them end nothing.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from handglass.errors import UsageError

from ..bundle.entries import Around
from .thoughts import Thoughts, overlap


class TextStream:
    def __init__(self, stop: Sequence[str] = (), thoughts: Thoughts | None = None) -> None:
        if isinstance(stop, str) or not all(isinstance(s, str) and s for s in stop):
            raise UsageError(f"stop={stop!r}: must be a list of non-empty strings")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self.thoughts = thoughts or Thoughts(Around(""))
        self._held = ""  # decoded text that may be the beginning of a stop string
        self.text = ""  # all emitted text
        self.stopped = False

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text that these bytes complete; empty after a stop string."""
        if self.stopped:
            return ""
        self._held += self.thoughts.split(self._decoder.decode(data, final), final)
        out = self._take(final)
        self.text += out
        return out

    def finish(self) -> str:
        """The remaining text; an incomplete character becomes U+FFFD."""
        return self.feed(b"", final=True)

    def _take(self, final: bool) -> str:
        starts = [i for s in self._stop if (i := self._held.find(s)) >= 0]
        if starts:
            self.stopped = True
            return self._held[: min(starts)]
        keep = 0 if final else overlap(self._held, self._stop)
        out = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return out
