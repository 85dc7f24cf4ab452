"""The interface between the compiler and a model family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

from ..checkpoints.checkpoint import EMBEDDING, LM_HEAD, Checkpoint
from ..checkpoints.template_file import TemplateFile
from .config import LanguageConfig
from .storage import Storage


class FamilyConfig(Protocol):
    """A validated config.json; a family may add fields that only it reads."""

    @property
    def architecture(self) -> str: ...
    @property
    def language(self) -> LanguageConfig:
        """Of an encoder: the sizes of its text tower, a TextTowerConfig, or NoTexts."""


class HasHead(Protocol):
    """The part of a checkpoint that building a model uses; no weights are read."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""

    def lm_head(self, tied: bool, head: str = LM_HEAD, embedding: str = EMBEDDING) -> str:
        """Name of the tensor to use as the language model head."""


class Network(Protocol):
    """A model in Relax; its weights have not been read."""

    @property
    def storage(self) -> Storage: ...

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""

    def functions(self) -> dict[str, FunctionEntry]:
        """The exported functions, as the manifest describes them."""

    def state(self) -> tuple[StateTensor, ...]:
        """The tensors that prefill and decode update in place."""

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        """The work of one call of each function: operations and bytes."""

    def modules(self) -> Any:
        """From the Relax frontend: this module and all its submodules."""

    def named_parameters(self) -> Any:
        """From the Relax frontend: what `export` returns as parameters, without exporting."""


@dataclass(frozen=True)
class Score:
    """How an encoder makes rows of pictures and texts and compares them: see `EncodersEntry`."""

    kind: str
    width: int
    """Columns of the rows that are compared."""
    scale: float = 1.0
    bias: float = 0.0
    class_tokens: int = 0
    labels: tuple[str, ...] = ()
    vision: VisionEntry | None = None
    """For the size of the pictures that the checkpoint states, if the model takes any."""
    pads_texts: bool = False
    """Whether every text is as long as the longest."""
    length: int | None = None
    """The most tokens of a text, if the checkpoint states fewer than there are positions."""
    lowers: bool = False
    """Whether the letters of texts are lowered before the tokenizer sees them."""


@dataclass(frozen=True)
class Family:
    """One model version, or several that share a structure.

    To add a family, write a file that defines a `Family` and list it in `FAMILIES`.
    """

    name: str
    matches: Callable[[Mapping[str, Any]], bool]
    """Whether a config.json belongs to this family, by architecture, version and shape."""
    configure: Callable[[dict[str, Any]], Any]
    """config.json -> FamilyConfig; raises InputError for settings that are not supported."""
    build: Callable[[HasHead, Any, Storage], Network]
    prompt: Callable[[Any, TemplateFile], PromptEntry]
    """The prompt, from the configuration and the chat template of the checkpoint."""
    vision: Callable[[Any], VisionEntry | None] = lambda config: None
    title: Callable[[Any], str] = lambda config: str(config.architecture)
    """The name of the released model that a configuration has."""
    ignored: Callable[[Any], tuple[str, ...]] = lambda config: ()
    """Prefixes of tensors that released checkpoints have and this configuration does not use."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of tensor names in another layout of the release -> those that `build` uses."""
    keeps_small_pictures: bool = False
    """Whether preprocessor_config.json may say so (`small_image_upsize`)."""
    template_decides: bool = True
    """Whether the checkpoint's chat template decides if the model thinks unless it is asked to, or
    not to; else it does not think."""
    score: Callable[[Checkpoint, Any], Score] | None = None
    """Of an encoder, which answers no questions: how it compares pictures and texts."""
    has_texts: bool = True
    """False: an encoder of pictures alone."""
    reference: str = ""
    """The module whose `reference` (configuration) makes the numpy reference of `handglass verify`;
    empty: none. A name, because the reference is independent code that compiling does not need."""
