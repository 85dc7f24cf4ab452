"""PyTorch as a worker of `versus.py`.

Settings `vision` and `decoder`: a type, f32 or bf16, and eager or compiled. Compiled is one layer
at a time by `torch.compile`: the layers share what was compiled, and a growing cache is a symbolic
size.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from versus_modules import Decoder, Past, VisionTower, draw
from versus_shape import is_hybrid, parameters
from versus_worker import (
    ANSWER_TOKENS,
    QUESTION_TOKENS,
    Task,
    forget_peak,
    require_memory,
    rows_of,
    serve,
)

SPARE = 1.15
"""The memory of a process over that of its weights."""
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Torch:
    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.vocab_size = task.config["vocab_size"]
        self.dtype, decoder_mode = dtype_and_mode(task.settings["decoder"])
        self.vision_dtype, vision_mode = dtype_and_mode(task.settings["vision"])
        self.decoder: Any = drawn(Decoder, 0, self.dtype, task.config)
        self.tower = drawn(VisionTower, 1, self.vision_dtype, task.config, task.patches)
        for module, mode in ((self.decoder, decoder_mode), (self.tower, vision_mode)):
            if mode == "compiled":
                compile_layers(module)
        values = 3 * task.config["patch_size"] ** 2
        self.patches = torch.randn(task.patches, values, dtype=self.vision_dtype)
        self.layers = task.config["num_hidden_layers"]
        shape = (1, task.config["num_key_value_heads"], 0, self.decoder.head_dim)
        self.nothing = [self._past(torch.empty, shape) for _ in range(self.layers)]
        self.past = self.nothing
        self.kept: dict[int, list[Past]] = {0: self.nothing}

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

    def generate(self, pos: int, steps: int) -> float:
        self.past = self._filled(pos)
        start = time.perf_counter()
        self._greedy(0, steps)
        return time.perf_counter() - start

    def answer(self) -> float:
        self.past = self.nothing
        ids = self._ids(QUESTION_TOKENS)
        start = time.perf_counter()
        rows = self.tower(self.patches)[None].to(self.dtype)
        logits = self._step(torch.cat([rows, self.decoder.embed(ids)], 1))
        self._greedy(int(logits.argmax()), ANSWER_TOKENS)
        return time.perf_counter() - start

    def _filled(self, pos: int) -> list[Past]:
        if pos not in self.kept:
            shape = (*self.nothing[0][0].shape[:2], pos, self.decoder.head_dim)
            self.kept[pos] = [self._past(torch.randn, shape) for _ in range(self.layers)]
        return self.kept[pos]

    def _past(self, make: Any, shape: tuple[int, ...]) -> Past:
        return make(shape, dtype=self.dtype), make(shape, dtype=self.dtype)

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


def dtype_and_mode(words: str) -> tuple[torch.dtype, str]:
    dtype, mode = words.split()
    return DTYPES[dtype], mode


def hybrid(task: Task) -> Any:
    """The engine for a decoder with linear attention."""
    from versus_torch_hybrid import Hybrid

    decoder, mode = dtype_and_mode(task.settings["decoder"])
    vision, vision_mode = dtype_and_mode(task.settings["vision"])
    modes = {"decoder": mode, "vision": vision_mode}
    return Hybrid(task, decoder, vision, [part for part in modes if modes[part] == "compiled"])


def drawn(kind: type[nn.Module], seed: int, dtype: torch.dtype, *arguments: Any) -> nn.Module:
    """A module with random weights of a type."""
    torch.set_default_dtype(dtype)
    module = draw(kind(*arguments), seed)
    torch.set_default_dtype(torch.float32)
    return module


def compile_layers(module: Any) -> None:
    for layer in module.layers:
        layer.compile(dynamic=None)


def main() -> None:
    task = Task.read()
    size = DTYPES[task.settings["decoder"].split()[0]].itemsize
    require_memory(parameters(task.config) * size * SPARE, "the model")
    with torch.inference_mode():
        peer = hybrid(task) if is_hybrid(task.config) else Torch(task)
        forget_peak()
        about = {
            "name": "torch",
            "version": f"torch {torch.__version__}",
            "weights": f"{task.settings['decoder']}; vision {task.settings['vision']}",
            "cache": str(peer.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "wait": "OpenMP: spins a little after each parallel part, asleep between two rows",
        }
        serve(about, rows_of(peer))


if __name__ == "__main__":
    main()
