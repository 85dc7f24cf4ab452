"""A GGUF file of a language model, with the interface of a checkpoint folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .gguf_config import config_of, interleaved_heads
from .gguf_header import Header, read_header
from .gguf_sentencepiece import tokenizer_model
from .gguf_tensors import GgufTensors
from .gguf_tokenizer import template_of, tokenizer_json, tokenizer_name
from .template_file import TemplateFile


class GgufCheckpoint(Checkpoint):
    """`folder` is the file."""

    def __init__(self, header: Header, config: dict[str, Any]) -> None:
        self._header = header
        self._tensors = GgufTensors(header, interleaved_heads(header, config))
        super().__init__(header.path, config, dict.fromkeys(self._tensors.names, self._tensors))

    @classmethod
    def read_file(cls, path: Path) -> GgufCheckpoint:
        """Raises InputError for a damaged file, and for one that is not supported."""
        header = read_header(path)
        return cls(header, config_of(header))

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
