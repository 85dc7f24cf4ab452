"""The models that can be compiled: architecture name in `config.json` -> how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from handglass.errors import InputError
from handglass.runtime.bundle.manifest import PromptEntry

from .config import ModelConfig
from .minicpmv import MiniCPMV
from .storage import Storage


class HasHead(Protocol):
    """What building a model asks of a checkpoint; nothing of its weights is read."""

    def lm_head(self, tied: bool) -> str:
        """The tensor to use as language model head."""


@dataclass(frozen=True)
class Importer:
    """Everything that compiling one architecture needs to know."""

    configure: Callable[[dict[str, Any]], ModelConfig]
    build: Callable[[HasHead, ModelConfig, Storage], MiniCPMV]
    prompt: PromptEntry


def _build_minicpmv(checkpoint: HasHead, config: ModelConfig, storage: Storage) -> MiniCPMV:
    head = checkpoint.lm_head(config.language.tie_word_embeddings)
    return MiniCPMV(config, storage, head)


MODELS: dict[str, Importer] = {
    "MiniCPMV": Importer(
        ModelConfig.from_dict,
        _build_minicpmv,
        PromptEntry("<s>", "<用户>", "<AI>", "<image>", "</image>", "<unk>", ("</s>",)),
    ),
}


def find_importer(config: dict[str, Any]) -> Importer:
    """The entry for the architecture in `config.json`, or an InputError that says why not."""
    names = config.get("architectures")
    known = [name for name in MODELS if isinstance(names, list) and name in names]
    if known:
        return MODELS[known[0]]
    ModelConfig.from_dict(config)  # knows the names and shapes of releases that are not supported
    raise InputError(f"config.json: no model for {names!r}; known architectures: {list(MODELS)}")
