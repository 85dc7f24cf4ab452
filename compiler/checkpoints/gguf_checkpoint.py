"""GGUF files of a language model and its vision tower, with the interface of a folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from handglass.errors import InputError

from .checkpoint import Checkpoint
from .gguf_clip import Tower, projector_of
from .gguf_config import architecture_of, config_of, interleaved_heads
from .gguf_experts import QWEN35MOE, MixtureTensors
from .gguf_header import Header, read_header
from .gguf_merged_vision import ARCHITECTURES, merged_tower
from .gguf_qwen35 import QWEN35, HybridTensors
from .gguf_sentencepiece import tokenizer_model
from .gguf_tensors import GgufTensors, original_name
from .gguf_tokenizer import template_of, tokenizer_json, tokenizer_name
from .gguf_vision import resampled_tower
from .stored import Computed
from .template_file import TemplateFile

TOWERS = {"resampler": resampled_tower, **dict.fromkeys(ARCHITECTURES, merged_tower)}
"""Kind of the projector -> reads the file."""
HYBRID_TENSORS = {QWEN35: HybridTensors, QWEN35MOE: MixtureTensors}


class GgufCheckpoint(Checkpoint):
    """`folder` is the file of the language model."""

    def __init__(self, header: Header, vision: Header | None = None) -> None:
        """`vision`: the file of the vision tower.

        Raises InputError for a file that is not supported.
        """
        self._header = header
        config = config_of(header)
        text = _text_tensors(header, config)
        shards: dict[str, Computed] = dict.fromkeys(text.names, text)
        stored: dict[str, str] = {}
        self._preprocessor = None
        if vision is not None:
            tower = _tower(vision, config)
            config, self._preprocessor = tower.config, tower.preprocessor
            stored = {tower.text_name(name): name for name in text.names}
            shards = dict.fromkeys(tower.tensors.names, tower.tensors) | dict.fromkeys(stored, text)
        super().__init__(header.path, config, shards)
        self._names |= stored

    @classmethod
    def read_file(cls, path: Path, mmproj: Path | None = None) -> GgufCheckpoint:
        """`mmproj`: the file of the vision tower. Raises InputError for a damaged file, and for
        one that is not supported."""
        return cls(read_header(path), read_header(mmproj) if mmproj else None)

    def generation(self) -> dict[str, Any]:
        return {}

    def preprocessor(self) -> tuple[Path, dict[str, Any]] | None:
        return self._preprocessor

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


def _tower(header: Header, text: dict[str, Any]) -> Tower:
    kind = projector_of(header)
    if not isinstance(kind, str) or kind not in TOWERS:
        raise InputError(
            f"{header.path}: clip.projector_type is {kind!r:.100}, which is not supported; known: "
            f"{', '.join(TOWERS)}"
        )
    return TOWERS[kind](header, kind, text)


def _text_tensors(header: Header, config: dict[str, Any]) -> GgufTensors:
    if kind := HYBRID_TENSORS.get(architecture_of(header)):
        return kind(header, config)
    return GgufTensors(header, interleaved_heads(header, config), original_name)
