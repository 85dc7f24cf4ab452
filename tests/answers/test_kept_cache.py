"""A cache that is taken out of one model and put into another: the talk goes on as if it were one.

With a state that can be rewound, with one that cannot, and with a device whose memory is its own.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession
from test_reuse import Recurrent

from handglass.runtime.answer.conversations import Conversations
from handglass.runtime.answer.kept_cache import KeptCache, keep_cache, put_cache
from handglass.runtime.bundle.entries import RECURRENT, StateEntry, StateTensor
from handglass.runtime.engine.worker import Worker

STATES = {
    "rewindable": StateTensor("rows", (64, 8), "float32"),
    "recurrent": StateTensor("memory", (6,), "float32", RECURRENT),
}


class Session:
    """A fake session whose state is a tuple of tensors, as that of a real one."""

    def __init__(self, kind: str, is_host: bool) -> None:
        self._name = "cache" if kind == "rewindable" else "state"
        self._inner: Any = FakeSession() if kind == "rewindable" else Recurrent()
        self.can_copy_positions = is_host
        self.worker = Worker()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def cache(self) -> tuple[np.ndarray, ...]:
        array = getattr(self._inner, self._name)
        return (array if self.can_copy_positions else array.copy(),)

    def fill_cache(self, arrays: Sequence[np.ndarray]) -> None:
        assert not self.can_copy_positions
        setattr(self._inner, self._name, np.array(arrays[0]))

    def save_state(self) -> tuple[np.ndarray, ...]:
        return (self._inner.save_state(),)

    def restore_state(self, state: tuple[np.ndarray, ...] | None) -> None:
        self._inner.restore_state(state and state[0])


def model(kind: str, is_host: bool = True) -> Any:
    session = Session(kind, is_host)
    manifest = SimpleNamespace(state=StateEntry(64, (STATES[kind],)))
    talks = Conversations(session)
    return SimpleNamespace(session=session, manifest=manifest, conversations=talks)


def ask(asked: Any, keys: Sequence[int]) -> tuple[list[int], int]:
    """Four tokens, and how many keys were reused."""
    choose: Any = lambda logits, tokens: int(logits.argmax())  # noqa: E731
    talks = asked.conversations
    generation = talks.answer(list(keys), lambda digest: np.zeros((1, 8)), choose, (), 4)
    return list(generation), generation.reused_tokens


def copied(kept: KeptCache) -> KeptCache:
    """As it comes from a file: nothing is shared with the model."""
    state = tuple(np.array(array) for array in kept.state)
    return KeptCache(kept.keys, kept.places, state, kept.copies, kept.is_broken)


@pytest.mark.parametrize("is_host", [True, False])
@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("turn", ["the next question", "the same again", "another end"])
def test_the_talk_goes_on(turn: str, kind: str, is_host: bool) -> None:
    first, second = model(kind, is_host), model(kind, is_host)
    tokens, _ = ask(first, [1, 2, 3])
    kept = keep_cache(first)
    assert kept is not None
    assert list(kept.keys) == [1, 2, 3, *tokens[:-1]]
    kept = copied(kept)
    ask(second, [9, 9, 9, 9, 9, 9])  # what it holds is replaced
    put_cache(second, kept)
    keys = {
        "the next question": [1, 2, 3, *tokens, 7, 8],
        "the same again": [1, 2, 3],
        "another end": [1, 2, 3, tokens[0], 11],
    }[turn]
    assert ask(second, keys) == ask(first, keys)
    assert ask(model(kind), keys)[0] == ask(second, keys)[0], "other than without any cache"


def test_an_empty_cache_is_none() -> None:
    assert keep_cache(model("rewindable")) is None


def test_a_state_that_was_interrupted_is_not_continued() -> None:
    """Only its copies are."""
    first, second = model("recurrent"), model("recurrent")
    ask(first, [1, 2, 3])
    first.session._inner.breaks_at = first.session._inner.computed + 2
    with pytest.raises(KeyboardInterrupt):
        ask(first, [1, 2, 3, 4, 5, 6, 7])
    kept = keep_cache(first)
    assert kept is not None and kept.is_broken
    put_cache(second, copied(kept))
    keys = [1, 2, 3, *range(10, 20)]
    assert ask(second, keys) == (ask(model("recurrent"), keys)[0], 3)
