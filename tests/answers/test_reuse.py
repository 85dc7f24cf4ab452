"""A conversation with a recurrent state, which cannot rewind: reuse without stale state."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from handglass.runtime.answer.generate import Conversation
from handglass.runtime.answer.reuse import COPIES_KEPT, Reuse, common_prefix

VOCABULARY = 40
TABLE = np.random.default_rng(1).normal(size=(VOCABULARY, 6)).astype(np.float32)
MIX = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0].astype(np.float32)


class Recurrent:
    """The state mixes all rows so far in order, so it cannot be rewound."""

    is_rewindable = False
    context = 64

    def __init__(self, breaks_at: int = -1) -> None:
        self.state = np.zeros(6, np.float32)
        self.computed = 0
        self.breaks_at = breaks_at

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        return TABLE[list(ids)]

    def prefill(self, x: np.ndarray, pos: int, positions: np.ndarray | None = None) -> np.ndarray:
        for row in x:
            self.computed += 1
            self.state = np.tanh(MIX @ self.state + row)
            if self.computed == self.breaks_at:
                raise KeyboardInterrupt
        return TABLE @ self.state

    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
        return self.prefill(TABLE[[token]], pos)

    def save_state(self) -> np.ndarray:
        return self.state.copy()

    def restore_state(self, state: np.ndarray | None) -> None:
        self.state = np.zeros(6, np.float32) if state is None else state.copy()


def no_pictures(digest: str) -> np.ndarray:
    raise AssertionError(digest)


def ask(conversation: Conversation, keys: list[int], count: int = 5) -> list[int]:
    choose: Any = lambda logits, tokens: int(logits.argmax())  # noqa: E731
    return list(conversation.answer(keys, no_pictures, choose, (), count))


def afresh(keys: list[int], count: int = 5) -> list[int]:
    return ask(Conversation(Recurrent()), keys, count)


def test_the_next_turn_continues_where_the_state_stands() -> None:
    session = Recurrent()
    talk = Conversation(session)
    first = [1, 2, 3, 4]
    answer = ask(talk, first)
    before = session.computed
    keys = [*first, *answer[:-1], 7, 8]  # the last token of an answer is not computed
    assert ask(talk, keys) == afresh(keys)
    assert session.computed - before == 2 + 4


def test_the_same_question_again_computes_nothing_of_it() -> None:
    session = Recurrent()
    talk = Conversation(session)
    answer = ask(talk, [1, 2, 3])
    before = session.computed
    assert ask(talk, [1, 2, 3]) == answer
    assert session.computed - before == 4, "the tokens of the answer alone"


def test_another_question_branches_off_at_the_end_of_a_prompt() -> None:
    session = Recurrent()
    talk = Conversation(session)
    ask(talk, [1, 2, 3])
    before = session.computed
    keys = [1, 2, 3, 30, 31]
    assert ask(talk, keys) == afresh(keys)
    assert session.computed - before == 2 + 4


@pytest.mark.parametrize("keys", [[1, 2], [1, 2, 9], [5], [1, 2, 3, 4, 5, 6]])
def test_whatever_comes_next_is_as_if_nothing_had_been_before(keys: list[int]) -> None:
    talk = Conversation(Recurrent())
    for before in ([1, 2, 3], [1, 2, 3, 8], [1, 9]):
        ask(talk, before)
        assert ask(talk, keys) == afresh(keys)


def test_after_an_interruption_nothing_of_the_state_is_believed() -> None:
    session = Recurrent(breaks_at=6)
    talk = Conversation(session)
    ask(talk, [1, 2], count=1)
    with pytest.raises(KeyboardInterrupt):
        ask(talk, [1, 2, 3, 4, 5, 6, 7])
    assert ask(talk, [1, 2, 3]) == afresh([1, 2, 3])


def test_copies_are_bounded() -> None:
    session = Recurrent()
    reuse = Reuse(session)
    for length in range(1, 3 * COPIES_KEPT):
        reuse.end(length, np.zeros(1, np.float32))
    assert len(reuse.copies) == COPIES_KEPT


def test_random_talks_match_fresh_ones() -> None:
    random = np.random.default_rng(4)
    talk, keys = Conversation(Recurrent()), [1]
    for _ in range(60):
        cut = int(random.integers(0, len(keys) + 1))
        keys = [*keys[:cut], *(int(i) for i in random.integers(0, 3, random.integers(1, 4)))][:40]
        count = int(random.integers(1, 4))
        assert ask(talk, keys, count) == afresh(keys, count)


def test_common_prefix() -> None:
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2, 3], [1, 2]) == 2
    assert common_prefix([1, 2], [1, 3]) == 1
