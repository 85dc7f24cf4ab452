"""MiniCPM-V 4.6 in PyTorch for `versus.py`: the classes of transformers, with random weights."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import DynamicCache, MiniCPMV4_6Config, MiniCPMV4_6ForConditionalGeneration
from versus_worker import ANSWER_TOKENS, QUESTION_TOKENS, Task

BATCH = 512


class Hybrid:
    """The rows of one model; the prompt of `answer` is the picture's rows and random tokens."""

    def __init__(
        self, task: Task, dtype: torch.dtype, vision_dtype: torch.dtype, compiled: list[str]
    ) -> None:
        torch.set_num_threads(task.threads)
        shape = task.config
        config = MiniCPMV4_6Config(
            text_config={**shape["text_config"], "model_type": "qwen3_5_text"},
            vision_config=shape["vision_config"],
            insert_layer_id=shape["insert_layer_id"],
        )
        model: Any = MiniCPMV4_6ForConditionalGeneration(config).eval()
        self.eye, self.text, self.head = model.model, model.model.language_model, model.lm_head
        for part, kind in (
            (self.eye.vision_tower, vision_dtype),
            (self.eye.merger, vision_dtype),
            (self.text, dtype),
            (self.head, dtype),
        ):
            part.to(kind)
        layers = {"vision": self.eye.vision_tower.encoder.layers, "decoder": self.text.layers}
        for part in compiled:
            for layer in layers[part]:
                layer.compile(dynamic=None)
        self.dtype, self.vocab_size = dtype, shape["vocab_size"]
        side = shape["image_size"] // shape["patch_size"]
        size = (1, 3, shape["patch_size"], shape["patch_size"] * side * side)
        self.picture = torch.randn(size, dtype=vision_dtype)
        self.sizes = torch.tensor([[side, side]], dtype=torch.int32)
        self.cache: Any = None

    def encode(self) -> float:
        start = time.perf_counter()
        self._rows()
        return time.perf_counter() - start

    def prefill(self, count: int) -> float:
        self.cache = DynamicCache(config=self.text.config)
        ids = self._ids(count)
        start = time.perf_counter()
        self._step(self.text.embed_tokens(ids))
        return time.perf_counter() - start

    def generate(self, pos: int, steps: int) -> float:
        self.cache = DynamicCache(config=self.text.config)
        for first in range(0, pos, BATCH):
            self._step(self.text.embed_tokens(self._ids(min(BATCH, pos - first))))
        start = time.perf_counter()
        self._greedy(0, steps)
        return time.perf_counter() - start

    def answer(self) -> float:
        self.cache = DynamicCache(config=self.text.config)
        ids = self._ids(QUESTION_TOKENS)
        start = time.perf_counter()
        x = torch.cat([self._rows().to(self.dtype), self.text.embed_tokens(ids)], 1)
        self._greedy(int(self._step(x).argmax()), ANSWER_TOKENS)
        return time.perf_counter() - start

    def _rows(self) -> torch.Tensor:
        found = self.eye.get_image_features(self.picture, self.sizes).pooler_output
        return (
            found[0][None]
            if isinstance(found, (list, tuple))
            else found.reshape(1, -1, found.shape[-1])
        )

    def _step(self, x: torch.Tensor) -> torch.Tensor:
        out = self.text(inputs_embeds=x, past_key_values=self.cache, use_cache=True)
        return self.head(out.last_hidden_state[:, -1:])

    def _greedy(self, token: int, steps: int) -> None:
        for _ in range(steps):
            token = int(self._step(self.text.embed_tokens(torch.tensor([[token]]))).argmax())

    def _ids(self, count: int) -> torch.Tensor:
        return torch.randint(0, self.vocab_size, (1, count))
