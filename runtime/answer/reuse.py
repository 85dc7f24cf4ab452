"""How much of what a session's state holds can be continued by the next prompt.

Keys and values are kept for each position: any common beginning can be continued. A recurrent state
is a summary of all positions: it can be continued where it stands, or from a copy. A copy is taken
at the end of each prompt, where the next one most often branches off (an answer asked for again, a
question put differently).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

COPIES_KEPT = 8


class StateEngine(Protocol):
    """What reuse needs of a session."""

    @property
    def is_rewindable(self) -> bool: ...
    def save_state(self) -> Any: ...
    def restore_state(self, state: Any | None) -> None: ...


@dataclass(frozen=True)
class Reused:
    """`length` keys need not be computed; `logits` where not a single one has to be."""

    length: int
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class _Copy:
    length: int
    state: Any
    logits: np.ndarray


class Reuse:
    """Of one session, whose state holds `history`."""

    def __init__(self, session: StateEngine) -> None:
        self._session = session
        self._copies: list[_Copy] = []
        self._is_broken = False  # a step was interrupted: a recurrent state may be anything

    def begin(self, history: Sequence[Any], keys: Sequence[Any]) -> Reused:
        """Bring the state to the end of a beginning of `keys`, the longest that there is."""
        common = common_prefix(history, keys)
        if self._session.is_rewindable:
            # The last key is always computed: its logits are what the caller is after.
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
        """Around each call that changes the state."""
        self._is_broken = True
        yield
        self._is_broken = False

    def end(self, length: int, logits: np.ndarray) -> None:
        """The state now holds a prompt of so many keys, whose logits these are."""
        if not self._session.is_rewindable:
            copy = _Copy(length, self._session.save_state(), logits.copy())
            self._copies = [*(c for c in self._copies if c.length < length), copy][-COPIES_KEPT:]


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
