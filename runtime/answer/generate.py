"""The generation loop: prompt keys in, token ids out. Text and templates are handled elsewhere.

A key identifies the content of one cache position: a token id, or (digest, row) of a tile. A prefix
of keys that the cache already holds is not computed again, so a conversation only computes new
positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

import numpy as np

from handglass.errors import DeviceError, InputError, UsageError

from .engines import Engine, StatesEngine
from .reuse import Reuse, common_prefix
from .view import Features, Key, view_of

Place = tuple[int, int, int]  # rotary positions T, H and W


class ContextFullError(InputError):
    """The prompt is longer than the context. `of_it` says what takes a part of the tokens."""

    def __init__(
        self, needed: int, context: int, of_it: str = "", advice: str = "shorten the prompt"
    ) -> None:
        self.counts = (
            f"the prompt has {needed} tokens{of_it}, the context of this bundle has {context} "
            "positions"
        )
        super().__init__(f"{self.counts}; {advice}, or compile with a larger --context")


class Conversation:
    """Tracks the keys that a state of its session holds.

    `state`: the one that this conversation owns; None: the only one of the session. `rows`: the
    most that a prompt computes in one call; None: all. `picture`: see `view_of`.
    """

    def __init__(
        self,
        session: Engine,
        state: Any = None,
        rows: int | None = None,
        picture: int | None = None,
    ) -> None:
        self.session = session
        self.view = view_of(session, picture)
        self.state = state
        self.rows = rows
        self.kept = 0  # keys of its last prompt that the next one is expected to repeat
        self.history: list[Key] = []
        self.places: list[Place] = []  # of the history, for a model that takes positions
        self._ahead: int | None = None  # the next position without the place; None: takes none
        self.reuse = Reuse(session)
        self.current: Generation | None = None  # the last one that began

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
        """A generation that continues `keys`; nothing is computed until it is iterated.

        The next prompt is expected to repeat the first `branch` keys; None: all of them.
        `positions` (len(keys), 3) int32: their rotary positions, for a model that takes them.

        Raises UsageError for a bad `max_tokens`, InputError if the prompt is empty, and its
        subclass ContextFullError if it is too long.
        """
        check_asked(keys, max_tokens, self.session.context)
        choose = self._itself
        return Generation(choose, list(keys), features, sample, stop, max_tokens, branch, positions)

    def _itself(self, keys: Sequence[Key], positions: np.ndarray | None) -> Conversation:
        return self

    def prefill(
        self,
        keys: list[Key],
        features: Features,
        branch: int | None = None,
        positions: np.ndarray | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[np.ndarray, int]:
        """Logits after `keys`, (vocab_size,), and the number of keys reused from the cache.

        A key is reused only at the same rotary position. `check` is called before each step; what
        it raises ends the answer, and what was computed until then can be reused.
        """
        self.use()
        self.kept = len(keys) if branch is None else branch
        reused = self.reuse.begin(self._held, _placed(keys, _places(positions)))
        del self.history[reused.length :]  # before the calls below, which may be interrupted
        del self.places[reused.length :]
        self._ahead = None if positions is None else int(positions.max()) + 1 - len(keys)
        if reused.logits is not None:
            return reused.logits, reused.length
        start = reused.length
        for end in self.reuse.ends(start, len(keys), branch):
            for stop in self._stops(keys, start, end):
                check()
                self.view.look(keys, start, features)
                part = None if positions is None else positions[start:stop]
                logits = self._extend(keys[start:stop], start, features, part)
                start = stop
            self.reuse.end(end, logits)
        return logits, reused.length

    def _stops(self, keys: Sequence[Key], start: int, end: int) -> list[int]:
        """Where to end the calls that compute the keys from `start` to `end`."""
        rows = self.rows or end - start
        return sorted({*range(start + rows, end, rows), *self.view.starts(keys, start, end), end})

    def use(self) -> None:
        """Make the state of this conversation that of the session."""
        if self.state is not None:
            cast(StatesEngine, self.session).use(self.state)

    @property
    def _held(self) -> Sequence[Any]:
        return _placed(self.history, self.places)

    def common(self, keys: Sequence[Key], positions: np.ndarray | None = None) -> int:
        """How many of the first keys are those of this conversation, at the same positions."""
        return common_prefix(self._held, _placed(keys, _places(positions)))

    def reusable(self, common: int, wanted: int) -> int:
        """How many of `wanted` keys it can continue, if `common` are the same."""
        return self.reuse.reusable(len(self.history), common, wanted)

    def copyable(self, common: int, wanted: int) -> int:
        """How many of them another conversation can take over."""
        return self.reuse.copyable(common, wanted)

    def take_over(self, other: Conversation, length: int) -> None:
        """Begin with the first `length` keys of another conversation; see `copyable`."""
        self.use()
        self.forget()  # before the call below, which may be interrupted
        cast(StatesEngine, self.session).copy_positions(other.state, length)
        self.reuse.take_over(other.reuse, length)
        self.history, self.places = other.history[:length], other.places[:length]

    def forget(self) -> None:
        """Reuse nothing that is in the cache now."""
        self.history, self.places = [], []
        self.reuse.forget()
        self.view.forget()

    def _extend(
        self, keys: list[Key], start: int, features: Features, positions: np.ndarray | None
    ) -> np.ndarray:
        x = self._rows(keys, features)
        placed = () if positions is None else (positions,)
        with self.reuse.step():
            logits = self.view.prefill(x, start, *placed)
        self.history.extend(keys)
        self.places.extend(_places(positions))
        return logits

    def decode(self, token: int) -> np.ndarray:
        self.use()
        place = len(self.history)
        position = None if self._ahead is None else place + self._ahead
        placed = () if position is None else (position,)
        with self.reuse.step():
            logits = self.view.decode(token, place, *placed)
        self.history.append(token)
        self.places.extend((p, p, p) for p in placed)
        return logits

    def _rows(self, keys: list[Key], features: Features) -> np.ndarray:
        """Embeddings of tokens and rows of tiles, (len(keys), hidden_size)."""
        parts = []
        for source, run in groupby(keys, key=lambda key: key[0] if isinstance(key, tuple) else ""):
            members = list(run)
            if source:
                parts.append(self.view.rows([k for k in members if isinstance(k, tuple)], features))
            else:
                parts.append(self.session.embed([k for k in members if isinstance(k, int)]))
        return np.concatenate(parts)


def check_asked(keys: Sequence[Key], max_tokens: int, context: int) -> None:
    """Raise UsageError for a bad `max_tokens`, InputError for an empty prompt or a long one."""
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise UsageError(f"max_tokens={max_tokens!r} must be an integer of at least 1")
    if not keys:
        raise InputError("the prompt has 0 tokens; ask a question")
    if len(keys) > context:
        raise ContextFullError(len(keys), context)


def _places(positions: np.ndarray | None) -> list[Place]:
    return [] if positions is None else [(t, h, w) for t, h, w in positions.tolist()]


def _placed(keys: Sequence[Key], places: Sequence[Place]) -> Sequence[Any]:
    """Keys that differ where their positions do."""
    return list(zip(keys, places, strict=False)) if places else keys


class Generation:
    """One answer being generated: iterate over token ids, then read `finish_reason` and times.

    `choose` returns the conversation that continues the keys when the generation begins.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[Key], np.ndarray | None], Conversation],
        keys: list[Key],
        features: Features,
        sample: Callable[[np.ndarray, Sequence[int]], int],
        stop: Container[int],
        max_tokens: int,
        branch: int | None = None,
        positions: np.ndarray | None = None,
    ) -> None:
        self._choose = choose
        self._keys = keys
        self._features = features
        self._sample = sample
        self._stop = stop
        self._max_tokens = max_tokens
        self._branch = branch
        self._positions = positions
        self.tokens: list[int] = []
        self.finish_reason = ""  # "stop" or "length"; empty while it runs
        self.cut_by = ""  # "max_tokens" or "context" if the reason is "length"
        self.prefill_tokens = self.reused_tokens = self.decode_tokens = 0
        self.encode_s = self.prefill_s = self.decode_s = 0.0
        self.check: Callable[[], None] = lambda: None  # see Conversation.prefill

    def __iter__(self) -> Iterator[int]:
        """Times cover the model only, not what the caller does between two tokens."""
        conversation = self._choose(self._keys, self._positions)
        try:
            yield from self._tokens(conversation)
        except DeviceError:  # what it has computed may be wrong
            conversation.forget()
            raise

    def _tokens(self, conversation: Conversation) -> Iterator[int]:
        logits = self._prefill(conversation)
        while True:
            token = self._sample(logits, self.tokens)
            if token in self._stop:
                self.finish_reason = "stop"
                return
            self.tokens.append(token)
            self.cut_by = self._limit_reached(conversation)
            if self.cut_by:
                self.finish_reason = "length"
            yield token
            if self.finish_reason:
                return
            logits = self._decode(conversation, token)

    def _limit_reached(self, conversation: Conversation) -> str:
        if len(self.tokens) == self._max_tokens:
            return "max_tokens"
        used = len(conversation.history)
        return "context" if used >= conversation.session.context else ""

    def _prefill(self, conversation: Conversation) -> np.ndarray:
        conversation.current = self
        start = time.perf_counter()
        logits, self.reused_tokens = conversation.prefill(
            self._keys, self._timed_features, self._branch, self._positions, self.check
        )
        self.prefill_s = time.perf_counter() - start - self.encode_s
        self.prefill_tokens = len(self._keys) - self.reused_tokens
        return logits

    def _timed_features(self, digest: str) -> np.ndarray:
        start = time.perf_counter()
        rows = self._features(digest)
        self.encode_s += time.perf_counter() - start
        return rows

    def _decode(self, conversation: Conversation, token: int) -> np.ndarray:
        if conversation.current is not self:
            raise UsageError("another answer was started on this model; finish one before the next")
        start = time.perf_counter()
        logits = conversation.decode(token)
        self.decode_s += time.perf_counter() - start
        self.decode_tokens += 1
        return logits
