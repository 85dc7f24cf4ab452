"""The generation loop on a numpy session: tokens, end conditions, and reuse of the cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession

from handglass.errors import DeviceError, InputError, UsageError
from handglass.runtime.answer.generate import Conversation, Generation, Key
from handglass.runtime.answer.reuse import common_prefix
from handglass.runtime.answer.sampler import Sampler, Sampling
from handglass.runtime.system.memory import peak_bytes

RANDOM = np.random.default_rng(2)
PICTURES = {name: RANDOM.normal(size=(4, 8)).astype(np.float32) for name in ("cat", "dog")}


def picture(name: str) -> list[Key]:
    return [(name, row) for row in range(4)]


def answer(
    conversation: Conversation,
    keys: Sequence[Key],
    max_tokens: int = 5,
    stop: tuple[int, ...] = (),
    sample: Any = None,
) -> Generation:
    sample = sample or Sampler(Sampling())
    return conversation.answer(keys, PICTURES.__getitem__, sample, stop, max_tokens)


def greedy(session: FakeSession, keys: Sequence[Key], n: int) -> list[int]:
    """The reference: one full prefill per token."""
    rows = [PICTURES[k[0]][k[1]] if isinstance(k, tuple) else session.table[k] for k in keys]
    out = []
    for _ in range(n):
        logits = FakeSession.prefill(session, np.array(rows, np.float32), 0)
        out.append(int(logits.argmax()))
        rows.append(session.table[out[-1]])
    return out


PROMPTS: list[list[Key]] = [
    [1],
    [1, 2, 3],
    [*picture("cat")],
    [1, *picture("cat"), 5, *picture("dog"), 9, 9],
    [*picture("cat"), *picture("cat"), *picture("dog")],
]


@pytest.mark.parametrize("keys", PROMPTS)
def test_the_loop_says_what_the_obvious_loop_says(keys: list[Key]) -> None:
    generation = answer(Conversation(FakeSession()), keys, 6)
    assert list(generation) == generation.tokens == greedy(FakeSession(), keys, 6)
    assert generation.finish_reason == "length"


def test_a_stop_token_ends_and_is_not_said() -> None:
    generation = answer(Conversation(FakeSession(script=[7, 8, 2, 9])), [1], 10, stop=(2, 3))
    assert list(generation) == [7, 8]
    assert generation.finish_reason == "stop"


def test_a_stop_token_at_once_is_an_empty_answer() -> None:
    session = FakeSession(script=[2])
    generation = answer(Conversation(session), [1], stop=(2,))
    assert list(generation) == [] and generation.finish_reason == "stop"
    assert session.decoded == []


@pytest.mark.parametrize("n", [1, 2, 7])
def test_max_tokens_ends_without_a_wasted_step(n: int) -> None:
    session = FakeSession()
    generation = answer(Conversation(session), [1, 2], n)
    assert len(list(generation)) == n and generation.finish_reason == "length"
    assert len(session.decoded) == n - 1


@pytest.mark.parametrize("prompt", [1, 10, 15, 16])
def test_a_full_context_ends_with_length(prompt: int) -> None:
    session = FakeSession(context=16)
    generation = answer(Conversation(session), list(range(prompt)), 100)
    # The last token takes no cache position.
    assert len(list(generation)) == 16 - prompt + 1
    assert generation.finish_reason == "length"
    assert max((pos for _, pos in session.decoded), default=0) <= 15


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(InputError, match=" 17 tokens.* 16 positions"):
        answer(Conversation(FakeSession(context=16)), [1] * 17)
    with pytest.raises(InputError, match=" 0 tokens"):
        answer(Conversation(FakeSession()), [])


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3", None])
def test_max_tokens_must_be_a_positive_number(n: Any) -> None:
    with pytest.raises(UsageError, match="max_tokens="):
        answer(Conversation(FakeSession()), [1], n)


def test_the_second_turn_prefills_only_what_is_new() -> None:
    session = FakeSession()
    conversation = Conversation(session)
    first: list[Key] = [1, *picture("cat"), 2, 3]
    said = list(answer(conversation, first, 4))
    second: list[Key] = [*first, *said, 5, 6, 7]
    generation = answer(conversation, second, 4)
    tokens = list(generation)
    # The last token of the first answer was emitted but never entered the cache.
    assert session.prefilled == [(7, 0), (4, 10)]
    assert (generation.prefill_tokens, generation.reused_tokens) == (4, 10)
    assert tokens == greedy(FakeSession(), second, 4)


class Placing(FakeSession):
    """Records the rotary positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions: list[list[list[int]]] = []
        self.decoded_at: list[int | None] = []

    def prefill(self, x: np.ndarray, pos: int, positions: np.ndarray | None = None) -> np.ndarray:
        assert positions is not None and len(positions) == len(x)
        self.positions.append(positions.tolist())
        return super().prefill(x, pos)

    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
        self.decoded_at.append(position)
        return super().decode(token, pos)


def test_keys_are_reused_only_at_their_positions() -> None:
    session = Placing()
    conversation = Conversation(session)

    def ask(keys: list[Key], positions: list[tuple[int, int, int]]) -> Any:
        placed = np.array(positions, np.int32)
        sample = Sampler(Sampling())
        found = conversation.answer(keys, PICTURES.__getitem__, sample, (), 3, positions=placed)
        list(found)
        return found

    cat = picture("cat")
    keys: list[Key] = [1, *cat[:2], 2]
    ask(keys, [(0, 0, 0), (1, 1, 1), (1, 1, 2), (4, 4, 4)])
    assert session.decoded_at == [5, 6]
    assert (
        ask([*keys, 3], [(0, 0, 0), (1, 1, 1), (1, 1, 2), (4, 4, 4), (5, 5, 5)]).reused_tokens == 4
    )
    again = ask(keys, [(0, 0, 0), (1, 1, 1), (1, 1, 3), (5, 5, 5)])
    assert again.reused_tokens == 2
    assert session.positions[-1] == [[1, 1, 3], [5, 5, 5]]
    assert session.decoded_at[-2:] == [6, 7]


def test_pictures_in_the_cache_are_not_asked_for_again() -> None:
    asked: list[str] = []

    def features(name: str) -> np.ndarray:
        asked.append(name)
        return PICTURES[name]

    conversation = Conversation(FakeSession())
    sample = Sampler(Sampling())
    keys: list[Key] = [1, *picture("cat"), 2]
    list(conversation.answer(keys, features, sample, (), 2))
    list(conversation.answer([*keys, 3], features, sample, (), 2))
    assert asked == ["cat"]
    list(conversation.answer([1, *picture("dog"), 2], features, sample, (), 2))
    assert asked == ["cat", "dog"]


@pytest.mark.parametrize(
    ("second", "reused"),
    [
        ([1, 2, 3, 4], 3),  # identical prompt: the last key must be computed for its logits
        ([1, 2, 9, 4], 2),
        ([9], 0),
        ([1, 2], 1),
        ([1], 0),
    ],
)
def test_any_common_beginning_is_reused(second: list[Key], reused: int) -> None:
    conversation = Conversation(FakeSession())
    list(answer(conversation, [1, 2, 3, 4], 3))
    generation = answer(conversation, second, 5)
    assert list(generation) == greedy(FakeSession(), second, 5)
    assert generation.reused_tokens == reused


def test_half_a_picture_can_be_common() -> None:
    conversation = Conversation(FakeSession())
    list(answer(conversation, [1, *picture("cat")[:2], 7], 1))
    generation = answer(conversation, [1, *picture("cat"), 7], 5)
    assert list(generation) == greedy(FakeSession(), [1, *picture("cat"), 7], 5)
    assert generation.reused_tokens == 3


def test_random_conversations_always_equal_a_fresh_start() -> None:
    conversation = Conversation(FakeSession())
    keys: list[Key] = [1]
    for _ in range(40):
        keys = keys[: RANDOM.integers(1, len(keys) + 1)]
        keys += picture("cat") if RANDOM.random() < 0.3 else RANDOM.integers(0, 50, 3).tolist()
        if len(keys) > 50:
            keys = keys[:5]
        n = int(RANDOM.integers(1, 6))
        assert list(answer(conversation, keys, n)) == greedy(FakeSession(), keys, n)


def test_an_answer_left_in_the_middle_leaves_the_cache_known() -> None:
    conversation = Conversation(FakeSession())
    for _ in answer(conversation, [1, 2, 3], 9):
        break
    generation = answer(conversation, [1, 2, 3, 4], 5)
    assert list(generation) == greedy(FakeSession(), [1, 2, 3, 4], 5)
    assert generation.reused_tokens == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("where", ["prefill", "decode"])
def test_an_interrupt_leaves_the_cache_known(
    monkeypatch: pytest.MonkeyPatch, where: str, error: type[BaseException]
) -> None:
    session = FakeSession()
    conversation = Conversation(session)
    list(answer(conversation, [1, 2, 3], 2))

    def broken(*arguments: Any) -> np.ndarray:
        session.cache[2:6] = 99  # partially written
        raise error

    monkeypatch.setattr(session, where, broken)
    with pytest.raises(error):
        list(answer(conversation, [1, 2, 8, 9], 3))
    monkeypatch.undo()
    if where == "decode":
        session.cache[2] = session.table[8]  # already written by the prefill
        session.cache[3] = session.table[9]
    assert list(answer(conversation, [1, 2, 8, 5], 5)) == greedy(FakeSession(), [1, 2, 8, 5], 5)


def test_two_answers_at_once_are_refused() -> None:
    conversation = Conversation(FakeSession())
    first = iter(answer(conversation, [1], 9))
    next(first)
    second = answer(conversation, [2], 3)
    assert list(second) == greedy(FakeSession(), [2], 3)
    with pytest.raises(UsageError, match="another answer"):
        next(first)
    third, fourth = answer(conversation, [1], 9), answer(conversation, [2], 3)
    assert list(third) == greedy(FakeSession(), [1], 9)
    assert list(fourth) == second.tokens


def test_sampling_sees_the_generated_tokens_only() -> None:
    seen: list[list[int]] = []

    def sample(logits: np.ndarray, generated: Sequence[int]) -> int:
        seen.append(list(generated))
        return 4 + len(generated)

    assert list(answer(Conversation(FakeSession()), [1, 2], 3, sample=sample)) == [4, 5, 6]
    assert seen == [[], [4], [4, 5]]


def test_a_model_gone_wrong_is_a_device_error() -> None:
    session = FakeSession()
    session.table[3] = np.nan
    with pytest.raises(DeviceError, match="NaN"):
        list(answer(Conversation(session), [3]))


def test_times_are_our_own_and_no_one_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class SlowSession(FakeSession):
        def prefill(
            self, x: np.ndarray, pos: int, positions: np.ndarray | None = None
        ) -> np.ndarray:
            now[0] += 5
            return super().prefill(x, pos)

        def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
            now[0] += 0.25
            return super().decode(token, pos)

    def features(name: str) -> np.ndarray:
        now[0] += 30
        return PICTURES[name]

    conversation = Conversation(SlowSession())
    keys: list[Key] = [1, *picture("cat"), 2, *picture("dog")]
    generation = conversation.answer(keys, features, Sampler(Sampling()), (), 4)
    for _ in generation:
        now[0] += 1000  # time spent by the caller
    assert (generation.encode_s, generation.prefill_s, generation.decode_s) == (60, 5, 0.75)
    assert (generation.prefill_tokens, generation.decode_tokens) == (10, 3)


def test_common_prefix() -> None:
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, ("a", 0)], [1, ("a", 0), 2]) == 2
    assert common_prefix([1, ("a", 0)], [1, ("a", 1)]) == 1


def test_peak_memory_is_that_of_a_python_process() -> None:
    assert 10e6 < peak_bytes() < 100e9
