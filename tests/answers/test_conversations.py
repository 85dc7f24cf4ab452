"""Several conversations with one session: which one continues, and that no state leaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession
from test_generate import greedy
from test_reuse import Recurrent, afresh

from handglass.errors import DeviceError, InputError, UsageError
from handglass.runtime.answer.conversations import Conversations, state_bytes
from handglass.runtime.bundle.entries import StateEntry, StateTensor

SYSTEM = [1, 2, 3, 4, 5]


class RecurrentStates:
    """A recurrent session with several states."""

    can_copy_positions = True

    def __init__(self) -> None:
        self._session = Recurrent()
        self.state = self.new_state()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def new_state(self) -> list[np.ndarray]:
        return [np.zeros(6, np.float32)]

    def use(self, state: list[np.ndarray]) -> None:
        self.state[0] = self._session.state
        self.state, self._session.state = state, state[0]

    def copy_positions(self, source: Any, count: int) -> None:
        """It has none."""


def no_pictures(digest: str) -> np.ndarray:
    raise AssertionError(digest)


def ask(
    talks: Conversations, keys: Sequence[int], count: int = 4, branch: int | None = None
) -> Any:
    choose: Any = lambda logits, tokens: int(logits.argmax())  # noqa: E731
    generation = talks.answer(list(keys), no_pictures, choose, (), count, branch)
    tokens = list(generation)
    return tokens, generation.reused_tokens


def test_two_conversations_in_turn_keep_their_caches() -> None:
    talks = Conversations(FakeSession(), 2)
    first, second = [1, 7, 8], [2, 9, 10]
    for turn in range(3):
        for keys in (first, second):
            tokens, reused = ask(talks, keys)
            assert tokens == greedy(FakeSession(), keys, 4)
            assert reused == (0 if turn == 0 else len(keys) - 3)
            keys += [*tokens[:-1], 20 + turn, 30, 31]


def test_with_one_conversation_they_take_it_from_each_other() -> None:
    talks = Conversations(FakeSession(), 1)
    ask(talks, [1, 7, 8])
    ask(talks, [2, 9])
    assert ask(talks, [1, 7, 8])[1] == 0


def test_a_shared_beginning_is_copied_and_computed_once() -> None:
    session = FakeSession()
    talks = Conversations(session, 2)
    ask(talks, [*SYSTEM, 7, 8])
    tokens, reused = ask(talks, [*SYSTEM, 9, 10])
    assert reused == len(SYSTEM) and session.copied == [len(SYSTEM)]
    assert tokens == greedy(FakeSession(), [*SYSTEM, 9, 10], 4)
    tokens, reused = ask(talks, [*SYSTEM, 7, 8])
    assert reused == len(SYSTEM) + 1, "the first conversation still has its own"


def test_nothing_is_copied_where_memory_cannot_be() -> None:
    session = FakeSession()
    session.can_copy_positions = False
    talks = Conversations(session, 2)
    ask(talks, [*SYSTEM, 7, 8])
    tokens, reused = ask(talks, [*SYSTEM, 9, 10])
    assert (tokens, reused) == (greedy(FakeSession(), [*SYSTEM, 9, 10], 4), 0)
    assert ask(talks, [*SYSTEM, 7, 8])[1] == len(SYSTEM) + 1


def test_the_least_recently_used_one_is_taken() -> None:
    talks = Conversations(FakeSession(), 2)
    ask(talks, [1, 7])
    ask(talks, [2, 8])
    ask(talks, [1, 7])
    ask(talks, [3, 9])  # in place of [2, 8]
    assert ask(talks, [1, 7])[1] == 1
    assert ask(talks, [2, 8])[1] == 0
    assert len(talks) == 2 and all(talks.held)


def test_an_opening_that_is_not_repeated_ends_no_conversation() -> None:
    """A prompt of thoughts, say, ends in tokens that the next turn does not have."""
    talks = Conversations(FakeSession(), 3)
    ask(talks, [1, 7, 8, 40, 41], branch=3)
    assert ask(talks, [1, 7, 8, 9, 10, 40, 41], branch=5)[1] == 3
    assert talks.held[:2] == [0, 0], "the same conversation went on"


class LeftError(Exception):
    """The client has left."""


def leave_after(steps: int) -> Any:
    """A check that raises when so many steps are done."""
    left = iter([None] * steps)

    def check() -> None:
        if next(left, LeftError) is LeftError:
            raise LeftError

    return check


@pytest.mark.parametrize("make", [FakeSession, RecurrentStates])
def test_a_long_prompt_is_computed_in_parts_that_are_kept(make: Any) -> None:
    choose: Any = lambda logits, tokens: int(logits.argmax())  # noqa: E731
    keys = [int(i) for i in np.random.default_rng(3).integers(0, 40, 14)]
    talks = Conversations(make(), 2, rows=4)
    ask(talks, [39, 38])
    generation = talks.answer(keys, no_pictures, choose, (), 4)
    generation.check = leave_after(2)
    with pytest.raises(LeftError):
        list(generation)
    tokens, reused = ask(talks, keys)
    assert reused == 8, "two parts were computed"
    assert tokens == ask(Conversations(make(), 2), keys)[0]


@pytest.mark.parametrize("make", [FakeSession, RecurrentStates])
@pytest.mark.parametrize("count", [1, 2])
def test_after_a_device_error_nothing_is_continued(make: Any, count: int) -> None:
    """What the device computed may be wrong, recurrent states and their copies included."""

    def fail(logits: np.ndarray, tokens: Sequence[int]) -> int:
        if len(tokens) == 2:
            raise DeviceError("NaN")
        return 5

    talks = Conversations(make(), count)
    with pytest.raises(DeviceError):
        list(talks.answer([1, 2, 3], no_pictures, fail, (), 9))
    for keys in ([1, 2, 3, 5, 6], [1, 2, 3]):
        tokens, reused = ask(talks, keys)
        assert tokens == ask(Conversations(make(), 1), keys)[0]
        assert reused == 0 or keys == [1, 2, 3]


def test_random_talks_match_fresh_ones() -> None:
    random = np.random.default_rng(7)
    talks = Conversations(FakeSession(), 3, rows=7)
    lines: list[list[int]] = [[*SYSTEM, i] for i in range(5)]
    for _ in range(80):
        keys = lines[int(random.integers(len(lines)))]
        cut = int(random.integers(1, len(keys) + 1))
        keys[cut:] = [int(i) for i in random.integers(0, 4, random.integers(1, 4))]
        del keys[40:]
        count = int(random.integers(1, 4))
        tokens, _ = ask(talks, keys, count)
        assert tokens == greedy(FakeSession(), keys, count)
        keys += tokens[:-1]


def test_random_talks_with_a_recurrent_state_match_fresh_ones() -> None:
    random = np.random.default_rng(8)
    talks = Conversations(RecurrentStates(), 3, rows=7)
    lines: list[list[int]] = [[1, 2, i] for i in range(5)]
    for _ in range(80):
        keys = lines[int(random.integers(len(lines)))]
        cut = int(random.integers(1, len(keys) + 1))
        keys[cut:] = [int(i) for i in random.integers(0, 4, random.integers(1, 4))]
        del keys[40:]
        count = int(random.integers(1, 4))
        tokens, _ = ask(talks, keys, count, int(random.integers(1, len(keys) + 1)))
        assert tokens == afresh(keys, count)
        keys += tokens[:-1]


def test_a_recurrent_prefix_is_taken_over_from_a_saved_copy() -> None:
    session = RecurrentStates()
    talks = Conversations(session, 2)
    ask(talks, [1, 2, 3])
    before = session.computed
    tokens, reused = ask(talks, [1, 2, 3, 30, 31])
    assert (tokens, reused) == (afresh([1, 2, 3, 30, 31], 4), 3)
    assert session.computed - before == 2 + 3
    assert ask(talks, [1, 2, 3])[1] == 3, "the first conversation kept its copy"


def test_a_bad_number_of_conversations_is_refused() -> None:
    for count in (0, -1, True, 1.5):
        with pytest.raises(UsageError, match="conversations"):
            Conversations(FakeSession(), count)  # type: ignore[arg-type]


def test_bad_prompts_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="0 tokens"):
        ask(Conversations(FakeSession(), 2), [])


def test_the_bytes_of_a_conversation_include_the_saved_copies() -> None:
    rows = StateTensor("k", (4, 16), "float32", "positions")
    summary = StateTensor("s", (8,), "float32", "recurrent")
    assert state_bytes(StateEntry(4, (rows,))) == 256
    assert state_bytes(StateEntry(4, (rows, summary))) == 256 + 32 + 8 * 32
