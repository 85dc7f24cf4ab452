"""Determines which prefix of a prompt the state of a session already covers.

Keys and values are stored per position, so any common prefix can be continued. A recurrent state
summarizes all positions, so it can be continued only from its current end or from a saved copy. A
copy is saved at the end of each prompt, where the next prompt most often branches off (a repeated
or a rephrased question). If the prompt ends with an opening that later turns do not repeat, such as
an empty block of thoughts, another copy is saved before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .engines import StateEngine

COPIES_KEPT = 8


@dataclass(frozen=True)
class Reused:
    """The first `length` keys are reused; `logits` is set if all keys are."""

    length: int
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class Copy:
    """A recurrent state after a prompt of `length` keys, and the logits (vocab_size,) there."""

    length: int
    state: Any
    logits: np.ndarray


class Reuse:
    """Tracks the reusable state of one session and its saved copies."""

    def __init__(self, session: StateEngine) -> None:
        self._session = session
        self.copies: list[Copy] = []
        self.is_broken = False  # a step was interrupted: a recurrent state is undefined

    def begin(self, history: Sequence[Any], keys: Sequence[Any]) -> Reused:
        """Rewind the state to the end of the longest prefix of `keys` that can be continued.

        `history` are the keys that the state holds.
        """
        common = common_prefix(history, keys)
        if self._session.is_rewindable:
            return Reused(self.reusable(len(history), common, len(keys)))
        self.copies = [copy for copy in self.copies if copy.length <= common]
        if common == len(history) < len(keys) and not self.is_broken:
            return Reused(common)
        copy = self.copies[-1] if self.copies else None
        self._session.restore_state(copy.state if copy else None)
        self.is_broken = False
        if copy is None:
            return Reused(0)
        return Reused(copy.length, copy.logits if copy.length == len(keys) else None)

    def reusable(self, held: int, common: int, wanted: int) -> int:
        """How many of `wanted` keys `begin` would reuse: the state holds `held` keys, of which the
        first `common` are the same."""
        if self._session.is_rewindable:
            # The last key is always computed, because the caller needs its logits.
            return min(common, wanted - 1)
        if common == held < wanted and not self.is_broken:
            return common
        return self._copied(common)

    def copyable(self, common: int, wanted: int) -> int:
        """How many of `wanted` keys another conversation can take over; `common` are the same."""
        return min(common, wanted - 1) if self._session.is_rewindable else self._copied(common)

    def take_over(self, other: Reuse, length: int) -> None:
        """Share the saved copies of another conversation of the same session, up to `length`."""
        self.copies = [copy for copy in other.copies if copy.length <= length]
        self.is_broken = True  # until `begin` restores the last of them

    def forget(self) -> None:
        """The state holds nothing that can be continued, nor does any copy."""
        self.copies = []
        self.is_broken = True  # until `begin` restores the zeros

    def _copied(self, common: int) -> int:
        return max((copy.length for copy in self.copies if copy.length <= common), default=0)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A context for each call that changes the state."""
        self.is_broken = True
        yield
        self.is_broken = False

    def ends(self, start: int, length: int, branch: int | None) -> tuple[int, ...]:
        """Where to end the steps that compute a prompt from `start`: one for each copy.

        `branch` is where the next prompt branches off; None: at the end of this one.
        """
        if branch is None or not start < branch < length or self._session.is_rewindable:
            return (length,)
        return branch, length

    def end(self, length: int, logits: np.ndarray) -> None:
        """Save a copy: the state holds a prompt of `length` keys with these logits."""
        if not self._session.is_rewindable:
            copy = Copy(length, self._session.save_state(), logits.copy())
            self.copies = [*(c for c in self.copies if c.length < length), copy][-COPIES_KEPT:]


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
