"""The generation loop: prompt keys in, token ids out. Text and templates are handled elsewhere.

A key identifies the content of one cache position: a token id, or (digest, row) of a tile. A prefix
of keys that the cache already holds is not computed again, so a conversation only computes new
positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError, UsageError

from .reuse import Reuse, StateEngine

Key = int | tuple[str, int]
Place = tuple[int, int, int]  # rotary positions T, H and W
Features = Callable[[str], np.ndarray]  # digest of a tile -> (rows, hidden_size)


@dataclass(frozen=True)
class Timings:
    load_s: float
    encode_ms: tuple[float, ...]  # per picture or video; 0 if it was encoded before
    image_tokens: tuple[int, ...]  # cache positions of each
    prefill_tokens: int  # prompt positions computed
    reused_tokens: int  # prompt positions already in the cache
    prefill_tok_s: float
    decode_tokens: int
    decode_tok_s: float
    ttft_ms: float  # from the call to the first token
    peak_mb: float  # peak resident memory of the process
    device_mb: float | None = None  # peak GPU memory; None on the CPU
    video_frames: tuple[int, ...] = ()  # of each; 0 for a picture, () from the native program


class Engine(StateEngine, Protocol):
    """The part of a session that the loop uses."""

    @property
    def context(self) -> int: ...
    def embed(self, ids: Sequence[int]) -> np.ndarray: ...
    def prefill(
        self, x: np.ndarray, pos: int, positions: np.ndarray | None = None
    ) -> np.ndarray: ...
    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray: ...


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
    """Tracks the keys that the cache of its session holds."""

    def __init__(self, session: Engine) -> None:
        self.session = session
        self.history: list[Key] = []
        self._places: list[Place] = []  # of the history, for a model that takes positions
        self._ahead: int | None = None  # the next position without the place; None: takes none
        self._reuse = Reuse(session)
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
        context = self.session.context
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise UsageError(f"max_tokens={max_tokens!r} must be an integer of at least 1")
        if not keys:
            raise InputError("the prompt has 0 tokens; ask a question")
        if len(keys) > context:
            raise ContextFullError(len(keys), context)
        return Generation(self, list(keys), features, sample, stop, max_tokens, branch, positions)

    def prefill(
        self,
        keys: list[Key],
        features: Features,
        branch: int | None = None,
        positions: np.ndarray | None = None,
    ) -> tuple[np.ndarray, int]:
        """Logits after `keys`, (vocab_size,), and the number of keys reused from the cache.

        A key is reused only at the same rotary position.
        """
        places = _places(positions)
        reused = self._reuse.begin(_placed(self.history, self._places), _placed(keys, places))
        del self.history[reused.length :]  # before the calls below, which may be interrupted
        del self._places[reused.length :]
        self._ahead = None if positions is None else int(positions.max()) + 1 - len(keys)
        if reused.logits is not None:
            return reused.logits, reused.length
        start = reused.length
        for end in self._reuse.ends(start, len(keys), branch):
            part = None if positions is None else positions[start:end]
            logits = self._extend(keys[start:end], start, features, part)
            start = end
        return logits, reused.length

    def _extend(
        self, keys: list[Key], start: int, features: Features, positions: np.ndarray | None
    ) -> np.ndarray:
        x = self._rows(keys, features)
        placed = () if positions is None else (positions,)
        with self._reuse.step():
            logits = self.session.prefill(x, start, *placed)
        self.history.extend(keys)
        self._places.extend(_places(positions))
        self._reuse.end(start + len(keys), logits)
        return logits

    def decode(self, token: int) -> np.ndarray:
        place = len(self.history)
        position = None if self._ahead is None else place + self._ahead
        placed = () if position is None else (position,)
        with self._reuse.step():
            logits = self.session.decode(token, place, *placed)
        self.history.append(token)
        self._places.extend((p, p, p) for p in placed)
        return logits

    def _rows(self, keys: list[Key], features: Features) -> np.ndarray:
        """Embeddings of tokens and rows of tiles, (len(keys), hidden_size)."""
        parts = []
        for source, run in groupby(keys, key=lambda key: key[0] if isinstance(key, tuple) else ""):
            members = list(run)
            if source:
                rows = features(source)
                parts.append(rows[[key[1] for key in members if isinstance(key, tuple)]])
            else:
                parts.append(self.session.embed([k for k in members if isinstance(k, int)]))
        return np.concatenate(parts)


def _places(positions: np.ndarray | None) -> list[Place]:
    return [] if positions is None else [(t, h, w) for t, h, w in positions.tolist()]


def _placed(keys: Sequence[Key], places: Sequence[Place]) -> Sequence[Any]:
    """Keys that differ where their positions do."""
    return list(zip(keys, places, strict=False)) if places else keys


class Generation:
    """One answer being generated: iterate over token ids, then read `finish_reason` and times."""

    def __init__(
        self,
        conversation: Conversation,
        keys: list[Key],
        features: Features,
        sample: Callable[[np.ndarray, Sequence[int]], int],
        stop: Container[int],
        max_tokens: int,
        branch: int | None = None,
        positions: np.ndarray | None = None,
    ) -> None:
        self._conversation = conversation
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

    def __iter__(self) -> Iterator[int]:
        """Times cover the model only, not what the caller does between two tokens."""
        logits = self._prefill()
        while True:
            token = self._sample(logits, self.tokens)
            if token in self._stop:
                self.finish_reason = "stop"
                return
            self.tokens.append(token)
            self.cut_by = self._limit_reached()
            if self.cut_by:
                self.finish_reason = "length"
            yield token
            if self.finish_reason:
                return
            logits = self._decode(token)

    def _limit_reached(self) -> str:
        if len(self.tokens) == self._max_tokens:
            return "max_tokens"
        used = len(self._conversation.history)
        return "context" if used >= self._conversation.session.context else ""

    def _prefill(self) -> np.ndarray:
        self._conversation.current = self
        start = time.perf_counter()
        logits, self.reused_tokens = self._conversation.prefill(
            self._keys, self._timed_features, self._branch, self._positions
        )
        self.prefill_s = time.perf_counter() - start - self.encode_s
        self.prefill_tokens = len(self._keys) - self.reused_tokens
        return logits

    def _timed_features(self, digest: str) -> np.ndarray:
        start = time.perf_counter()
        rows = self._features(digest)
        self.encode_s += time.perf_counter() - start
        return rows

    def _decode(self, token: int) -> np.ndarray:
        if self._conversation.current is not self:
            raise UsageError("another answer was started on this model; finish one before the next")
        start = time.perf_counter()
        logits = self._conversation.decode(token)
        self.decode_s += time.perf_counter() - start
        self.decode_tokens += 1
        return logits
