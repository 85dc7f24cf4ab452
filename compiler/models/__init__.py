"""The models that can be compiled: architecture name in `config.json` -> how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..checkpoint import Checkpoint
from .config import ModelConfig
from .minicpmv import MiniCPMV, Storage


@dataclass(frozen=True)
class Prompt:
    """Strings that structure a conversation, as the tokenizer of the checkpoint spells them."""

    bos: str
    user: str
    assistant: str
    image_start: str
    image_end: str
    unk: str
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Importer:
    """Everything that compiling one architecture needs to know."""

    build: Callable[[Checkpoint, ModelConfig, Storage], MiniCPMV]
    prompt: Prompt


def _build_minicpmv(checkpoint: Checkpoint, config: ModelConfig, storage: Storage) -> MiniCPMV:
    head = checkpoint.lm_head(config.language.tie_word_embeddings)
    return MiniCPMV(config, storage, head)


MODELS: dict[str, Importer] = {
    "MiniCPMV": Importer(
        _build_minicpmv,
        Prompt("<s>", "<用户>", "<AI>", "<image>", "</image>", "<unk>", ("</s>",)),
    ),
}
