"""Several conversations with one model, each with a state of its own.

A prompt continues the conversation whose last prompt it repeats. Any other prompt gets a
conversation that is new, or else the one that was used least recently; what it shares with another
one, such as a system prompt or a picture, is copied where the memory of the device allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, cast

import numpy as np

from handglass.errors import UsageError

from ..bundle.entries import RECURRENT, StateEntry
from .engines import Engine, StatesEngine
from .generate import Conversation, Features, Generation, Key, check_asked
from .reuse import COPIES_KEPT


class Conversations:
    """At most `count` conversations; the states of all of them exist from the beginning.

    `rows`, `picture`: see Conversation.
    """

    def __init__(
        self,
        session: Engine,
        count: int = 1,
        rows: int | None = None,
        picture: int | None = None,
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UsageError(f"conversations={count!r} must be an integer of at least 1")
        self.session = session
        states = [None] if count == 1 else self._some(count)
        # Least recently used first.
        self._recent = [Conversation(session, state, rows, picture) for state in states]

    @property
    def _states(self) -> StatesEngine:
        """The session, of which only more than one conversation needs so much."""
        return cast(StatesEngine, self.session)

    def _some(self, count: int) -> list[Any]:
        return [self._states.state, *(self._states.new_state() for _ in range(count - 1))]

    @property
    def latest(self) -> Conversation:
        """The one that was used most recently."""
        return self._recent[-1]

    def __len__(self) -> int:
        return len(self._recent)

    @property
    def held(self) -> list[int]:
        """Positions that each conversation holds, least recently used first."""
        return [len(conversation.history) for conversation in list(self._recent)]

    def answer(
        self,
        keys: Sequence[Key],
        features: Features,
        sample: Callable[[np.ndarray, Sequence[int]], int],
        stop: Container[int],
        max_tokens: int,
        branch: int | None = None,
        positions: np.ndarray | None = None,
    ) -> Generation:
        """As `Conversation.answer`, in the conversation that fits best when it begins."""
        check_asked(keys, max_tokens, self.session.context)
        given = (list(keys), features, sample, stop, max_tokens, branch, positions)
        return Generation(self.choose, *given)

    def choose(self, keys: Sequence[Key], positions: np.ndarray | None = None) -> Conversation:
        """The conversation that continues these keys, now the most recently used one."""
        common = {id(one): one.common(keys, positions) for one in self._recent}
        # Of several that share the same, the most recently used one.
        reusable = {id(one): one.reusable(common[id(one)], len(keys)) for one in self._recent}
        best = max(reversed(self._recent), key=lambda one: reusable[id(one)])
        shared = common[id(best)]
        if shared < min(best.kept, len(best.history)) or not best.history:
            best = self._other(best, best.copyable(shared, len(keys)), reusable)
        self._recent.remove(best)
        self._recent.append(best)
        return best

    def _other(self, nearest: Conversation, length: int, reusable: dict[int, int]) -> Conversation:
        """A new or the oldest conversation, with `length` positions of `nearest` if it has less."""
        unused = (one for one in self._recent if not one.history)
        chosen = next(unused, self._recent[0])
        if length > reusable[id(chosen)] and self._states.can_copy_positions:
            chosen.take_over(nearest, length)
        return chosen


def state_bytes(entry: StateEntry) -> int:
    """Bytes that one conversation takes at most: its state, and copies of what cannot rewind."""
    recurrent = sum(tensor.nbytes for tensor in entry.tensors if tensor.kind == RECURRENT)
    return sum(tensor.nbytes for tensor in entry.tensors) + COPIES_KEPT * recurrent
