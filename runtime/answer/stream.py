"""Bytes of tokens -> pieces of text that never cut a character.

Byte tokens of one character arrive one by one: nothing is shown before it is whole. Bytes that can
no longer become a character turn into U+FFFD. Stop strings end the text before they begin.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from handglass.errors import UsageError


class TextStream:
    def __init__(self, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str) or not all(isinstance(s, str) and s for s in stop):
            raise UsageError(f"stop={stop!r} must be a list of non-empty texts")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""  # decoded, but perhaps the beginning of a stop string
        self.text = ""  # all that was let out
        self.stopped = False

    def feed(self, data: bytes, final: bool = False) -> str:
        """The text that these bytes complete; after a stop string, nothing more."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data, final)
        out = self._take(final)
        self.text += out
        return out

    def finish(self) -> str:
        """What was held back; an unfinished character becomes U+FFFD."""
        return self.feed(b"", final=True)

    def _take(self, final: bool) -> str:
        found = [i for s in self._stop if (i := self._held.find(s)) >= 0]
        if found:
            self.stopped = True
            return self._held[: min(found)]
        keep = 0 if final else self._overlap()
        out = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return out

    def _overlap(self) -> int:
        """The longest end of the held text that begins a stop string."""
        lengths = (n for s in self._stop for n in range(1, len(s)) if self._held.endswith(s[:n]))
        return max(lengths, default=0)
