"""What compiling needs to know of a model family, without knowing which it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import tvm
from tvm.relax.frontend import nn

from handglass.runtime.bundle.entries import (
    FunctionEntry,
    PromptEntry,
    StateTensor,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from .config import LanguageConfig
from .storage import Storage


class FamilyConfig(Protocol):
    """A checkpoint's config.json, checked; what a family has beside this is its own affair."""

    @property
    def architecture(self) -> str: ...
    @property
    def language(self) -> LanguageConfig: ...


class HasHead(Protocol):
    """What building a model asks of a checkpoint; nothing of its weights is read."""

    def lm_head(self, tied: bool, prefix: str = "llm.") -> str:
        """The tensor to use as language model head."""


class Network(Protocol):
    """A model in Relax, before any of its weights is read."""

    @property
    def storage(self) -> Storage: ...

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""

    def functions(self) -> dict[str, FunctionEntry]:
        """The exported functions: the capabilities of a bundle."""

    def state(self) -> tuple[StateTensor, ...]:
        """What steps read and write in place."""

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        """What one call of each function is worth."""

    def modules(self) -> Any:
        """Of the frontend: the module itself and all in it."""


@dataclass(frozen=True)
class Family:
    """One model version, or several of one shape. Adding one is a file that makes such an entry and
    a line in the table of __init__.py."""

    name: str
    matches: Callable[[Mapping[str, Any]], bool]
    """Whether a config.json is of this family, by architecture, version and shape."""
    configure: Callable[[dict[str, Any]], Any]
    """config.json -> FamilyConfig; InputError for what cannot be compiled."""
    build: Callable[[HasHead, Any, Storage], Network]
    prompt: Callable[[Any], PromptEntry]
    vision: Callable[[Any], VisionEntry | None] = lambda config: None
    typical_tiles: int = 1
    """Tiles of a picture in the answer that kernels are tuned for."""
