"""Separates the thoughts of a model from its answer, in decoded text that arrives in pieces.

The text begins inside the thoughts if the marker that opened the answer ends there; otherwise the
model may begin with them itself. The newlines around thoughts are dropped, as they are when the
answer becomes an earlier turn.
"""

from __future__ import annotations

from ..bundle.entries import Around

START, THINKING, GAP, ANSWER = "start", "thinking", "gap", "answer"


class Thought(str):
    """A piece of the thoughts among pieces of an answer."""

    __slots__ = ()


class Thoughts:
    """`around`: the markers, empty for a model without thoughts; `opening`: the text before."""

    def __init__(self, around: Around, opening: str = "") -> None:
        self._around = around
        self._held = ""
        self._state = START if around.before else ANSWER
        if around.before and opening.rfind(around.before) > opening.rfind(around.after):
            self._state = THINKING
        self._said = ""  # thoughts that have not been fetched
        self.text = ""  # all thoughts

    def split(self, text: str, final: bool = False) -> str:
        """The part of the text that belongs to the answer; the thoughts wait for `fetch`."""
        self._held += text
        for state, step in ((START, self._start), (THINKING, self._think), (GAP, self._skip)):
            if self._state == state:
                step(final)
        if self._state != ANSWER:
            return ""
        out, self._held = self._held, ""
        return out

    @property
    def is_thinking(self) -> bool:
        return self._state == THINKING

    def fetch(self) -> str:
        """The thoughts since the last call."""
        out, self._said = self._said, ""
        return out

    def _start(self, final: bool) -> None:
        text, before = self._held.lstrip(), self._around.before
        if text.startswith(before):
            self._held, self._state = text[len(before) :], THINKING
        elif final or not before.startswith(text):
            self._state = ANSWER

    def _think(self, final: bool) -> None:
        if not self.text:
            self._held = self._held.lstrip("\n")
        inside, end, rest = self._held.partition(self._around.after)
        if end:
            self._state = GAP
        elif not final:
            keep = overlap(inside, (self._around.after,))
            inside, rest = inside[: len(inside) - keep], inside[len(inside) - keep :]
        self._held = rest
        self._said += inside
        self.text += inside

    def _skip(self, final: bool) -> None:
        self._held = self._held.lstrip("\n")
        if self._held or final:
            self._state = ANSWER


def overlap(text: str, strings: tuple[str, ...]) -> int:
    """Length of the longest suffix of the text that begins one of the strings."""
    lengths = (n for s in strings for n in range(1, len(s)) if text.endswith(s[:n]))
    return max(lengths, default=0)
