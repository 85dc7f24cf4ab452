"""A handglass bundle as a worker of `versus.py`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from versus_worker import (
    ANSWER_TOKENS,
    POSITIONS,
    PROMPTS,
    QUESTION_TOKENS,
    STEPS,
    Task,
    rows_of,
    serve,
)

import handglass
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.steps import Steps
from handglass.runtime.prompt.preprocess import open_preprocessor

CHUNK = 64
FILLED = max(POSITIONS) + STEPS
"""Positions whose keys and values are computed before the first row."""


class Ours:
    def __init__(self, session: Session) -> None:
        self.session, self.steps = session, Steps(session)
        for pos in range(0, FILLED, CHUNK):  # not more than the peers fill, whose memory counts too
            session.prefill(session.embed(self.steps.ids(CHUNK)), pos)
        assert session.manifest.vision is not None
        side = session.manifest.vision.image_size
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        (self.tile,) = open_preprocessor(session.manifest)(picture)
        self.question = self.steps.ids(QUESTION_TOKENS)
        self._ids = {count: self.steps.ids(count) for count in PROMPTS}

    def encode(self) -> float:
        return self.steps.encode()

    def prefill(self, count: int) -> float:
        return self.steps.prefill(self._ids[count])

    def generate(self, pos: int, steps: int) -> float:
        return self.steps.decode(pos, steps)

    def answer(self) -> float:
        start, session = time.perf_counter(), self.session
        rows = session.encode_image(*self.tile.arrays)
        x = np.concatenate([rows, session.embed(self.question)])
        token = int(session.prefill(x, 0).argmax())
        for pos in range(len(x), len(x) + ANSWER_TOKENS):
            token = int(session.decode(token, pos).argmax())
        return time.perf_counter() - start


def main() -> None:
    task = Task.read()
    session = Session(Bundle.open(Path(task.settings["bundle"]), "remembered"), task.threads)
    peer, manifest = Ours(session), session.manifest
    about = {
        "name": "handglass",
        "version": handglass.__version__,
        "weights": ", ".join(f"{part} {name}" for part, name in manifest.scheme.items()),
        "cache": manifest.state.tensors[0].dtype,
        "threads": session.threads,
        "wait": "pool of handglass: spins 2 ms, then sleeps; asleep between two rows",
    }
    serve(about, rows_of(peer))


if __name__ == "__main__":
    main()
