"""PyTorch as a worker of `versus.py`: eager, in float32 or bfloat16 (the last argument)."""

from __future__ import annotations

import time
from typing import Any

import torch
from versus_modules import Decoder, Past, VisionTower, draw
from versus_worker import ANSWER_TOKENS, QUESTION_TOKENS, STEPS, Task, serve

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Torch:
    def __init__(self, task: Task, dtype: torch.dtype) -> None:
        torch.set_num_threads(task.threads)
        torch.set_default_dtype(dtype)
        self.dtype, self.vocab_size = dtype, task.config["vocab_size"]
        self.decoder: Any = draw(Decoder(task.config), 0)
        self.tower = draw(VisionTower(task.config, task.patches), 1)
        self.patches = torch.randn(task.patches, 3 * task.config["patch_size"] ** 2)
        self.layers = task.config["num_hidden_layers"]
        shape = (1, task.config["num_key_value_heads"], 0, self.decoder.head_dim)
        self.nothing = [(torch.empty(shape), torch.empty(shape)) for _ in range(self.layers)]
        self.past = self.nothing
        self.kept: list[Past] | None = None

    def encode(self) -> float:
        start = time.perf_counter()
        self.tower(self.patches)
        return time.perf_counter() - start

    def prefill(self, count: int) -> float:
        self.past = self.nothing
        ids = self._ids(count)
        start = time.perf_counter()
        self._step(self.decoder.embed(ids))
        return time.perf_counter() - start

    def generate(self, pos: int) -> float:
        self.past = self._filled(pos)
        start = time.perf_counter()
        self._greedy(0, STEPS)
        return time.perf_counter() - start

    def answer(self) -> float:
        self.past = self.nothing
        ids = self._ids(QUESTION_TOKENS)
        start = time.perf_counter()
        rows = self.tower(self.patches)[None]
        logits = self._step(torch.cat([rows, self.decoder.embed(ids)], 1))
        self._greedy(int(logits.argmax()), ANSWER_TOKENS)
        return time.perf_counter() - start

    def _filled(self, pos: int) -> list[Past]:
        if pos == 0:
            return self.nothing
        if self.kept is None:
            shape = (*self.nothing[0][0].shape[:2], pos, self.decoder.head_dim)
            self.kept = [(torch.randn(shape), torch.randn(shape)) for _ in range(self.layers)]
        return self.kept

    def _step(self, x: torch.Tensor) -> torch.Tensor:
        s, pos = x.shape[1], self.past[0][0].shape[2]
        mask = None if s == 1 else torch.ones(s, pos + s, dtype=torch.bool).tril(pos)
        logits, self.past = self.decoder(x, torch.arange(pos, pos + s), mask, self.past)
        return logits

    def _greedy(self, token: int, steps: int) -> None:
        for _ in range(steps):
            token = int(self._step(self.decoder.embed(torch.tensor([[token]]))).argmax())

    def _ids(self, count: int) -> torch.Tensor:
        return torch.randint(0, self.vocab_size, (1, count))


def main() -> None:
    task = Task.read()
    (word,) = task.words
    with torch.inference_mode():
        peer = Torch(task, DTYPES[word])
        about = {
            "name": f"torch-{word}",
            "version": f"torch {torch.__version__}, eager",
            "weights": word,
            "cache": word,
            "threads": torch.get_num_threads(),
            "wait": "OpenMP: spins a little after each parallel part, asleep between two rows",
        }
        serve(
            about,
            {
                "encode": peer.encode,
                "pp64": lambda: peer.prefill(64),
                "pp512": lambda: peer.prefill(512),
                "tg64@0": lambda: peer.generate(0),
                "tg64@512": lambda: peer.generate(512),
                "answer": peer.answer,
            },
        )


if __name__ == "__main__":
    main()
