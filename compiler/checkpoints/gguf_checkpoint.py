"""GGUF files of a language model and its vision tower, with the interface of a folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .gguf_config import architecture_of, config_of, interleaved_heads
from .gguf_header import Header, read_header
from .gguf_qwen35 import QWEN35, HybridTensors
from .gguf_sentencepiece import tokenizer_model
from .gguf_tensors import GgufTensors, original_name
from .gguf_tokenizer import template_of, tokenizer_json, tokenizer_name
from .gguf_vision import GgufVision, vision_config_of
from .stored import Computed
from .template_file import TemplateFile

BESIDE_VISION = "llm."
"""What the names of the language model begin with in a checkpoint that has a vision tower."""


class GgufCheckpoint(Checkpoint):
    """`folder` is the file of the language model."""

    def __init__(self, header: Header, vision: Header | None = None) -> None:
        """`vision`: the file of the vision tower.

        Raises InputError for a file that is not supported.
        """
        self._header = header
        config = config_of(header)
        text = _text_tensors(header, config)
        prefix = BESIDE_VISION if vision else ""
        stored = {f"{prefix}{name}": name for name in text.names}
        shards: dict[str, Computed] = {}
        if vision is not None:
            config |= vision_config_of(vision)
            tower = GgufVision(vision)
            shards = dict.fromkeys(tower.names, tower)
        super().__init__(header.path, config, {**shards, **dict.fromkeys(stored, text)})
        self._names |= stored

    @classmethod
    def read_file(cls, path: Path, mmproj: Path | None = None) -> GgufCheckpoint:
        """`mmproj`: the file of the vision tower. Raises InputError for a damaged file, and for
        one that is not supported."""
        return cls(read_header(path), read_header(mmproj) if mmproj else None)

    def generation(self) -> dict[str, Any]:
        return {}

    def template(self) -> TemplateFile:
        return template_of(self._header)

    @property
    def tokenizer_file(self) -> str:
        return self._header.path.name

    def tokenizer(self, name: str) -> bytes | None:
        return self._tokenizer if name == tokenizer_name(self._header) else None

    @cached_property
    def _tokenizer(self) -> bytes:
        is_json = tokenizer_name(self._header) == "tokenizer.json"
        return (tokenizer_json if is_json else tokenizer_model)(self._header)


def _text_tensors(header: Header, config: dict[str, Any]) -> GgufTensors:
    if architecture_of(header) == QWEN35:
        return HybridTensors(header, config)
    return GgufTensors(header, interleaved_heads(header, config), original_name)
