"""Log probabilities of tokens, and answers that are constrained."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scripted_model import EOS, TOKENIZER, model, says

from handglass.errors import DeviceError
from handglass.runtime.answer.logprobs import TokenLogProb, entry_of
from handglass.runtime.answer.sampler import Sampler, Sampling

LOGITS = (np.random.default_rng(5).normal(size=200) * 8).astype(np.float32)


@pytest.mark.parametrize("top", [0, 1, 5, 200, 300])
def test_an_entry_is_the_logarithm_of_the_softmax(top: int) -> None:
    weights = np.exp(LOGITS.astype(np.float64))
    expected = np.log(weights / weights.sum())
    entry = entry_of(LOGITS, 17, top)
    assert entry.logprob == pytest.approx(expected[17])
    best = np.argsort(-expected)[:top]
    assert [token for token, _ in entry.top] == best.tolist()
    assert [value for _, value in entry.top] == pytest.approx(expected[best])


def test_large_logits_do_not_overflow() -> None:
    entry = entry_of(np.array([1e4, 0, -1e4], np.float32), 1, 2)
    assert (entry.logprob, entry.top[0]) == (-1e4, (0, 0.0))


def test_an_answer_has_one_for_each_token_of_its_text() -> None:
    stream = model(says("Red.")).stream("x", top_logprobs=3)
    items = list(stream.items())
    entries = [item for item in items if isinstance(item, TokenLogProb)]
    assert stream.answer is not None
    assert tuple(entries) == stream.answer.logprobs
    assert [entry.token for entry in entries] == list(stream.answer.tokens)
    assert isinstance(items[0], TokenLogProb), "before the piece of its token"
    assert all(len(entry.top) == 3 for entry in entries)
    assert model(says("Red.")).chat("x").logprobs == ()


class Only:
    """Allows some tokens, and notes those that were taken."""

    def __init__(self, *tokens: int) -> None:
        self.tokens, self.taken = tokens, list[int]()

    def allowed(self) -> np.ndarray | None:
        return np.isin(np.arange(len(LOGITS)), self.tokens)

    def take(self, token: int) -> None:
        self.taken.append(token)


@pytest.mark.parametrize(
    "options",
    [{}, {"temp": 2.0}, {"temp": 1.0, "top_k": 3}, {"temp": 1.0, "top_p": 0.5},
     {"repeat_penalty": 1.5}, {"temp": 50.0, "top_k": 90, "repeat_penalty": 0.5}],
)  # fmt: skip
def test_only_allowed_tokens_are_selected(options: dict[str, Any]) -> None:
    only = Only(3, 150, 151)
    sampler = Sampler(Sampling(**options, seed=1), only)
    tokens: list[int] = []
    for _ in range(60):
        tokens.append(sampler(LOGITS, tokens))
    assert set(tokens) <= {3, 150, 151} and only.taken == tokens
    if options.get("temp", 0) > 1:
        assert len(set(tokens)) > 1


def test_the_check_for_damage_comes_before_the_constraint() -> None:
    with pytest.raises(DeviceError, match="NaN"):
        Sampler(Sampling(), Only(3))(np.full(200, np.nan, np.float32), [])


def test_a_constraint_shapes_an_answer() -> None:
    class Word:
        """The tokens of a word, then the end."""

        def __init__(self, text: str) -> None:
            self.rest: Sequence[int] = [*TOKENIZER.encode(text), EOS]

        def allowed(self) -> np.ndarray | None:
            return np.arange(TOKENIZER.vocab_size) == self.rest[0]

        def take(self, token: int) -> None:
            assert token == self.rest[0]
            self.rest = self.rest[1:]

    answer = model().stream("x", constraint=Word("yes")).finish()
    assert (answer.text, answer.finish_reason) == ("yes", "stop")
