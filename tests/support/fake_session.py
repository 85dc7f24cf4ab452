"""A fake session in numpy with predictable answers, which records its calls.

Its cache holds one row per position. The logits after a prefix depend on all of its rows, so a
stale row changes the answer.
"""

import time
from collections.abc import Sequence

import numpy as np

from handglass.runtime.engine.worker import Worker


class FakeSession:
    def __init__(
        self,
        vocab_size: int = 50,
        context: int = 64,
        query_num: int = 4,
        script: Sequence[int] = (),
    ) -> None:
        self.worker = Worker()
        random = np.random.default_rng(vocab_size)
        self.vocab_size, self.context, self.query_num = vocab_size, context, query_num
        self.table = random.normal(size=(vocab_size, 8)).astype(np.float32)
        self.cache = np.zeros((context, 8), np.float32)
        self.script = list(script)  # if given, the tokens to generate for any prompt
        self.prefilled: list[tuple[int, int]] = []  # (rows, pos)
        self.decoded: list[tuple[int, int]] = []  # (token, pos)
        self.images = 0
        self.copied: list[int] = []  # positions copied from one state to another
        self.step_s = 0.0  # that each step and each picture takes
        self.said = 0  # tokens since the last prefill

    @property
    def is_rewindable(self) -> bool:
        return True

    def save_state(self) -> np.ndarray:
        raise AssertionError("a rewindable session has no state to save")

    def restore_state(self, state: np.ndarray | None) -> None:
        raise AssertionError("a rewindable session has no state to restore")

    can_copy_positions = True

    def new_state(self) -> np.ndarray:
        return np.zeros_like(self.cache)

    @property
    def state(self) -> np.ndarray:
        return self.cache

    def use(self, state: np.ndarray) -> None:
        self.cache = state

    def copy_positions(self, source: np.ndarray, count: int) -> None:
        self.copied.append(count)
        self.cache[:count] = source[:count]
        self.cache[count:] = np.nan

    def device_peak(self) -> int | None:
        return None

    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray:
        self.images += 1
        time.sleep(self.step_s)
        count = self.query_num or len(position_ids) // 16
        rows = np.arange(1, count * 8 + 1, dtype=np.float32).reshape(-1, 8)
        return rows * strip.mean()

    def encode_frames(
        self, frames: Sequence[tuple[np.ndarray, ...]], times: Sequence[int]
    ) -> np.ndarray:
        assert len(frames) == len(times) > 1
        self.images += 1
        rows = np.arange(1, self.query_num * 8 + 1, dtype=np.float32).reshape(-1, 8)
        return rows * sum(t * strip.mean() for t, (strip, _, _) in zip(times, frames, strict=True))

    def embed(self, ids: Sequence[int]) -> np.ndarray:
        return self.table[list(ids)]

    def prefill(self, x: np.ndarray, pos: int, positions: np.ndarray | None = None) -> np.ndarray:
        assert x.dtype == np.float32 and x.ndim == 2 and len(x) and pos + len(x) <= self.context
        self.prefilled.append((len(x), pos))
        self.said = 0
        self.cache[pos : pos + len(x)] = x
        self.cache[pos + len(x) :] = np.nan  # later positions must never be read
        return self._logits(pos + len(x))

    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
        assert pos < self.context
        time.sleep(self.step_s)
        self.decoded.append((token, pos))
        self.said += 1
        self.cache[pos] = self.table[token]
        return self._logits(pos + 1)

    def _logits(self, end: int) -> np.ndarray:
        if self.script:
            token = self.script[self.said % len(self.script)]
            return 1000 * np.eye(self.vocab_size, dtype=np.float32)[token]
        weights = np.cos(np.arange(end, dtype=np.float32))[:, None]
        return self.table @ (self.cache[:end] * weights).sum(axis=0)
