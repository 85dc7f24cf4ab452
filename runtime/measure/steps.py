"""The measured steps: encoding one tile, a prefill, decode steps; all inputs are random."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..answer.sampler import Sampler, Sampling
from ..bundle.entries import TensorEntry
from ..engine.session import Session
from ..prompt.preprocess import Preprocessor, Tile


class Steps:
    """Runs steps of a session; the step methods return the seconds taken."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._random = np.random.default_rng(0)
        vision = session.manifest.vision
        self._preprocessor = None if vision is None else Preprocessor(vision)
        side = 1 if vision is None else vision.image_size
        self._picture = self._random.integers(0, 256, (side, side, 3), np.uint8)
        self._sampler = Sampler(Sampling())

    def prepare(self) -> None:
        """Warm up: touch the pages of parameters and cache, start the thread pool."""
        self.session.fill_cache(random_cache(self.session.manifest.state.tensors))
        if self.reads_pictures:
            self.encode()
        self.prefill(self.ids(min(16, self.session.context)))
        self.decode(0, 1)

    def phases(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """The steps whose kernels are timed, by their names."""
        context = self.session.context
        s, pos = min(64, context), min(512, context - 1)
        ids = self.ids(s)
        if self.reads_pictures:
            yield "encode", self.encode
        yield f"prefill {s}", lambda: self.prefill(ids)
        yield f"decode@{pos}", lambda: self.decode(pos, 1)

    @property
    def reads_pictures(self) -> bool:
        return self._preprocessor is not None

    def ids(self, s: int) -> list[int]:
        return [int(i) for i in self._random.integers(0, self.session.vocab_size, s)]

    def encode(self) -> float:
        """Encode one tile; preprocessing is not included."""
        tile = self._tiles()[0]
        return timed(lambda: self.session.encode_image(*tile.arrays))

    def prefill(self, ids: Sequence[int]) -> float:
        return timed(lambda: self.session.prefill(self.session.embed(ids), 0))

    def decode(self, pos: int, count: int) -> float:
        """Decode `count` tokens greedily from token 0, with random values in the cache."""
        start, token = time.perf_counter(), 0
        for step in range(pos, pos + count):
            token = int(self.session.decode(token, step).argmax())
        return time.perf_counter() - start

    def first_token(self, ids: Sequence[int]) -> float:
        """Seconds from a picture in memory and question ids to the first token."""

        def answer() -> None:
            rows = [self.session.encode_image(*tile.arrays) for tile in self._tiles()]
            if self.session.shows_pictures:
                self.session.show(rows[0])
                self._sampler(
                    self.session.prefill(self.session.embed(ids), 0, seen=len(rows[0])), []
                )
                return
            x = np.concatenate([*rows, self.session.embed(ids)])
            self._sampler(self.session.prefill(x, 0), [])

        return timed(answer)

    def picture_tiles(self) -> int:
        """Tiles that one picture is cut into."""
        return len(self._tiles())

    def picture_rows(self) -> int:
        """Cache positions that one picture takes."""
        return sum(tile.rows for tile in self._tiles())

    def _tiles(self) -> list[Tile]:
        assert self._preprocessor is not None
        return self._preprocessor.tiles(self._picture)


def random_cache(tensors: Sequence[TensorEntry]) -> Iterator[np.ndarray]:
    """Random state tensors: untouched pages would all map to the same page of zeros."""
    random = np.random.default_rng(0)
    patterns: dict[Any, np.ndarray] = {}
    for tensor in tensors:
        key = (tensor.shape, tensor.dtype)
        if key not in patterns:
            patterns[key] = random.uniform(-1, 1, tensor.shape).astype(tensor.dtype)
        yield patterns[key]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(figures: Sequence[float]) -> dict[str, float | None]:
    """Minimum, median and 90th percentile; None for an empty list."""
    if not figures:
        return {"min": None, "median": None, "p90": None}
    median, p90 = np.percentile(figures, [50, 90])
    return {"min": min(figures), "median": float(median), "p90": float(p90)}
