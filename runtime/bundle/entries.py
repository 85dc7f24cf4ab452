"""The parts of a manifest, as frozen dataclasses whose fields are the keys of the file.

What the runtime must know of a model is a constant here, worked out by the compiler: nothing on the
device reads the checkpoint's config.json again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..system.json_dataclass import optional, parse_dataclass

T = TypeVar("T")
POSITIONS, RECURRENT = "positions", "recurrent"
STATE_KINDS = (POSITIONS, RECURRENT)


@dataclass(frozen=True)
class ModelEntry:
    architecture: str
    config: Mapping[str, Any]  # the checkpoint's config.json, whole


@dataclass(frozen=True)
class TargetEntry:
    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]  # instruction sets that the library uses
    device: str = optional(lambda: "cpu")
    """The kind of devices that the kernels run on (runtime/devices/kinds.py). The fields above are
    of the code that calls them."""
    abilities: Mapping[str, Any] = optional(dict)
    """What they need of it, by TVM's names of its properties: those that begin with `supports_` if
    they are not 0, of those that end in `_operations` these bits, else at least this number."""


@dataclass(frozen=True)
class FunctionEntry:
    """A capability: the library has a function of this name."""

    arguments: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class TensorEntry:
    name: str
    shape: tuple[int, ...]
    dtype: str  # numpy's name of the stored type

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class StateTensor(TensorEntry):
    """A tensor that a step reads and writes in place; zeros at the start.

    `positions` holds something for each position (keys, values): going back to an earlier position
    needs nothing. `recurrent` holds a summary of all positions so far: going back needs a copy.
    """

    kind: str = optional(lambda: POSITIONS)


@dataclass(frozen=True)
class StateEntry:
    context: int  # positions
    tensors: tuple[StateTensor, ...]

    @property
    def is_rewindable(self) -> bool:
        """Whether any prefix of what was computed can be continued."""
        return all(tensor.kind == POSITIONS for tensor in self.tensors)


@dataclass(frozen=True)
class MethodEntry:
    """A way to do something that the runtime knows by name, and its constants."""

    kind: str
    parameters: Mapping[str, Any]

    def parse(self, cls: type[T], where: str) -> T:
        """The parameters as the dataclass of the method, strictly. InputError with their place."""
        return parse_dataclass(cls, dict(self.parameters), where, "parameters")


@dataclass(frozen=True)
class VisionEntry:
    """How a picture becomes tiles (`slicing`), and a tile the arguments of `encode_image`."""

    image_size: int  # side of a tile in pixels, the largest one
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    slicing: MethodEntry  # one of runtime/prompt/slicing.py
    positions: MethodEntry  # one of runtime/prompt/positions.py
    query_num: int = optional(lambda: 0)
    """Rows of the language model that a tile becomes; 0: as many as `patches_per_row` says."""
    patches_per_row: int = optional(lambda: 0)

    def rows(self, patches: int) -> int:
        """Rows of the language model that a tile of so many patches becomes."""
        return self.query_num or patches // self.patches_per_row


@dataclass(frozen=True)
class Around:
    """What stands in the prompt before and after something."""

    before: str
    after: str = optional(str)


@dataclass(frozen=True)
class PromptEntry:
    """The chat template. A prompt is `bos`, then each turn between what belongs around its role,
    then what comes before an answer."""

    bos: str  # one token, or nothing
    roles: Mapping[str, Around]  # "user", "assistant" and perhaps "system"
    tiles: Mapping[str, Around]  # around the rows of a tile, by the tile's role
    reserved: tuple[str, ...]  # strings that users must not type, beside the special tokens
    stop: tuple[str, ...]  # tokens that end an answer
    defaults: Mapping[str, float] = optional(dict)
    """Sampling where the caller says nothing, by the names of `Model.chat`."""


@dataclass(frozen=True)
class WorkEntry:
    """What one call of a function is worth: two operations per multiply-add, and bytes."""

    flops: float = optional(float)
    flops_per_row: float = optional(float)
    flops_per_pair: float = optional(float)
    """For each row and each position that it attends to."""
    bytes: int = optional(int)
    """Of parameters that a call must read; what it reads of the state is not among them."""


@dataclass(frozen=True)
class TokenizerEntry:
    kind: str  # "sentencepiece" or "tokenizers"
    file: str


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size: int
