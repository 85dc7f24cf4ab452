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
from typing import Any, Protocol

import numpy as np

COPIES_KEPT = 8


class StateEngine(Protocol):
    """The part of a session that manages its state."""

    @property
    def is_rewindable(self) -> bool: ...
    def save_state(self) -> Any: ...
    def restore_state(self, state: Any | None) -> None: ...


@dataclass(frozen=True)
class Reused:
    """The first `length` keys are reused; `logits` is set if all keys are."""

    length: int
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class _Copy:
    length: int
    state: Any
    logits: np.ndarray


class Reuse:
    """Tracks the reusable state of one session and its saved copies."""

    def __init__(self, session: StateEngine) -> None:
        self._session = session
        self._copies: list[_Copy] = []
        self._is_broken = False  # a step was interrupted: a recurrent state is undefined

    def begin(self, history: Sequence[Any], keys: Sequence[Any]) -> Reused:
        """Rewind the state to the end of the longest prefix of `keys` that can be continued.

        `history` are the keys that the state holds.
        """
        common = common_prefix(history, keys)
        if self._session.is_rewindable:
            # The last key is always computed, because the caller needs its logits.
            return Reused(min(common, len(keys) - 1))
        self._copies = [copy for copy in self._copies if copy.length <= common]
        if common == len(history) < len(keys) and not self._is_broken:
            return Reused(common)
        copy = self._copies[-1] if self._copies else None
        self._session.restore_state(copy.state if copy else None)
        self._is_broken = False
        if copy is None:
            return Reused(0)
        return Reused(copy.length, copy.logits if copy.length == len(keys) else None)

    @contextmanager
    def step(self) -> Iterator[None]:
        """A context for each call that changes the state."""
        self._is_broken = True
        yield
        self._is_broken = False

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
            copy = _Copy(length, self._session.save_state(), logits.copy())
            self._copies = [*(c for c in self._copies if c.length < length), copy][-COPIES_KEPT:]


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
