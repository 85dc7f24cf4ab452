"""The entries of a manifest, as frozen dataclasses whose fields are the JSON keys.

The compiler computes every model constant that the runtime needs and stores it in these entries, so
the device never interprets the checkpoint's config.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..system.json_dataclass import optional, parse_dataclass
from .tensors import storage_dtype

T = TypeVar("T")
POSITIONS, RECURRENT, PICTURES = "positions", "recurrent", "pictures"
PLAIN, CANVAS = "plain", "canvas"
"""Methods of `PromptEntry.positions`."""
ALWAYS, NEVER, ADAPTIVE = "always", "never", "adaptive"
GRIDS = {"grid": ALWAYS, "grid_native": NEVER, "grid_adaptive": ADAPTIVE}
"""Methods of `VisionEntry.slicing` that plan a grid -> which small pictures they enlarge."""
PADDED = "padded"
"""A method of `VisionEntry.positions`: the tiles of a picture are padded to the largest one."""
TILED = "tiled"
"""A method of `VisionEntry.slicing` and of `VisionEntry.positions`: all tiles of a picture are
encoded together."""
AXES = 3
"""Rotary positions of a token, in functions with the argument `positions`: time, row, column."""
STATE_KINDS = (POSITIONS, RECURRENT, PICTURES)
SIGMOID, SOFTMAX, COSINE = "sigmoid", "softmax", "cosine"
"""Values of `EncodersEntry.score`."""
PLAIN_TEXT, CANONICAL, WORDS = "plain", "canonical", "words"
"""Methods of `TextEntry.cleaning`."""


@dataclass(frozen=True)
class ModelEntry:
    architecture: str
    config: Mapping[str, Any]  # the checkpoint's complete config.json

    @property
    def name(self) -> str:
        """For people: the architecture, with the version if the configuration has one."""
        return f"{self.architecture} {self.config.get('version') or ''}".strip()[:100]


@dataclass(frozen=True)
class TargetEntry:
    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]  # instruction set extensions that the library uses
    device: str = optional(lambda: "cpu")
    """The kind of device that the kernels run on (runtime/devices/kinds.py). The fields above
    describe the host code that calls the kernels."""
    abilities: Mapping[str, Any] = optional(dict)
    """Capabilities that the kernels require, keyed by TVM's target attribute names. A nonzero
    `supports_*` is required; an `*_operations` value is a mask of required bits; any other value
    is a minimum."""
    images: tuple[str, ...] = optional(tuple)
    """Architectures for which the library has machine code, or code that a driver compiles, if the
    kind of device has several; a device needs one of them ("sm_87", "compute_87")."""

    @property
    def is_cpu(self) -> bool:
        """Whether the kernels are host code."""
        return self.device == "cpu"


@dataclass(frozen=True)
class FunctionEntry:
    """A capability: the library exports a function of this name."""

    arguments: tuple[str, ...]
    result: str

    def takes(self, name: str) -> bool:
        """Whether it has an argument of this name."""
        return any(argument.split(" ")[0] == name for argument in self.arguments)


@dataclass(frozen=True)
class TensorEntry:
    name: str
    shape: tuple[int, ...]
    dtype: str  # a key of tensors.CODES

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class StateTensor(TensorEntry):
    """A tensor that each step reads and updates in place; initialized to zero.

    A `positions` tensor has one slice per position (keys, values), so rewinding to an earlier
    position needs no copy. A `recurrent` tensor summarizes all positions so far, so rewinding needs
    a saved copy. A `pictures` tensor holds the keys and values of the pictures that the next rows
    see: `show_pictures` writes it before them, so it is neither rewound nor copied.
    """

    kind: str = optional(lambda: POSITIONS)


@dataclass(frozen=True)
class StateEntry:
    context: int  # positions
    tensors: tuple[StateTensor, ...]

    @property
    def is_rewindable(self) -> bool:
        """Whether generation can continue from any prefix of the computed positions."""
        return all(tensor.kind != RECURRENT for tensor in self.tensors)

    @property
    def picture_rows(self) -> int:
        """Rows of pictures that it has room for: the places of the values. Keys are in panels, and
        so are the scales of integers."""
        shapes = (tensor.shape for tensor in self.tensors if tensor.kind == PICTURES)
        return max((shape[1] for shape in shapes if len(shape) == 3), default=0)

    @property
    def cache_dtype(self) -> str:
        """The type of keys and values; float32 if no layer has any."""
        kept = (tensor.dtype for tensor in self.tensors if tensor.kind == POSITIONS)
        return next(kept, "float32")


@dataclass(frozen=True)
class MethodEntry:
    """A method that the runtime implements under the name `kind`, with its constants."""

    kind: str
    parameters: Mapping[str, Any]

    def parse(self, cls: type[T], where: str) -> T:
        """Parse the parameters into `cls`, the dataclass of the method.

        Raises InputError, with the location, for a missing, unknown or mistyped key.
        """
        return parse_dataclass(cls, dict(self.parameters), where, "parameters")


@dataclass(frozen=True)
class VisionEntry:
    """How an image is cut into tiles (`slicing`) and a tile becomes `encode_image` arguments."""

    image_size: int  # side of the largest tile, in pixels
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    slicing: MethodEntry  # a method of runtime/prompt/slicing.py
    positions: MethodEntry  # a method of runtime/prompt/positions.py
    query_num: int = optional(lambda: 0)
    """Embedding rows per tile; 0: one row per `patches_per_row` patches."""
    patches_per_row: int = optional(lambda: 0)
    window_levels: int = optional(lambda: 0)
    """How the patches of a tile are ordered. 0: by rows. 1: by rows of windows of 2 x 2 patches, a
    window by rows. 2: by rows of windows of 2 x 2 windows, each of these as in 1."""
    video: MethodEntry | None = optional(lambda: None)  # noqa: RUF009  a field, not a call
    """How the frames of a video are chosen and grouped: a method of
    runtime/prompt/video/sampling.py with its defaults. None: the model takes no videos."""

    def rows(self, patches: int) -> int:
        """Embedding rows that a tile of `patches` patches produces."""
        return self.query_num or patches // self.patches_per_row


@dataclass(frozen=True)
class Around:
    """Markers that the prompt has before and after an item."""

    before: str
    after: str = optional(str)


@dataclass(frozen=True)
class PromptEntry:
    """The chat template. A prompt is `bos`, then each turn enclosed in the markers of its role,
    then the marker that opens an answer."""

    bos: str  # one token, or empty
    roles: Mapping[str, Around]  # "user", "assistant" and optionally "system"
    tiles: Mapping[str, Around]
    """Markers around the rows of a tile, by the tile's role. `{picture}` in a marker is the number
    of the picture in the prompt, from 0."""
    reserved: tuple[str, ...]  # strings, besides the special tokens, that users must not type
    stop: tuple[str, ...]  # tokens that end an answer
    answer: Mapping[str, str] = optional(dict)
    """The marker that opens an answer, "plain" or "thinking"; by default the assistant's `before`.
    It may contain what the model would have written first, e.g. an empty block of thoughts. A
    model can be asked to think, or not to, only if it has "thinking"."""
    thoughts: Around = optional(lambda: Around(""))  # noqa: RUF009  a field, not a call
    """Markers that the model writes around its thoughts; empty if it has none. Earlier turns do not
    repeat the thoughts."""
    system: str = optional(str)
    """The text of the system turn if the user gives none; empty: no system turn."""
    is_trimmed: bool = optional(lambda: False)
    """Whether whitespace at both ends of a turn's text is removed."""
    between: str = optional(str)
    """Text that follows a picture which the user has not placed in the text, if anything does."""
    joint: str = optional(lambda: "\n")
    """Text between the items of a turn that is a list of texts and pictures."""
    frames: Mapping[str, Around] = optional(dict)
    """Markers around the rows of a tile of a video frame, by the tile's role; empty: as `tiles`."""
    between_frames: str = optional(str)
    """Text between the frames of a video."""
    positions: MethodEntry = optional(lambda: MethodEntry(PLAIN, {}))  # noqa: RUF009  a field
    """The rotary positions of the tokens: a method of runtime/prompt/canvas.py."""
    defaults: Mapping[str, float] = optional(dict)
    """Default options, keyed by the argument names of `Model.chat`."""
    picture: str = optional(str)
    """The token that stands for a picture whose rows are shown to the text (`show_pictures`); empty
    if the rows of a picture are rows of the prompt."""

    @property
    def sampling(self) -> dict[str, float | int]:
        """The defaults, whole numbers as int: JSON reads them as floats here."""
        pairs = self.defaults.items()
        return {k: int(v) if float(v).is_integer() else v for k, v in pairs}


@dataclass(frozen=True)
class WorkEntry:
    """Work of one call of a function: operations (two per multiply-add) and bytes."""

    flops: float = optional(float)
    flops_per_row: float = optional(float)
    flops_per_pair: float = optional(float)
    """Per pair of a row and a position that it attends to."""
    bytes: int = optional(int)
    """Parameter bytes that a call must read; reads of the state are not included."""


@dataclass(frozen=True)
class TokenizerEntry:
    kind: str  # "sentencepiece" or "tokenizers"
    file: str


@dataclass(frozen=True)
class TextEntry:
    """How a text becomes the ids of `encode_text`: `before`, the tokens of the text, `after`."""

    length: int
    """The most ids; the last tokens of a longer text are left out."""
    before: tuple[int, ...]
    after: tuple[int, ...]
    cleaning: MethodEntry  # a method of runtime/prompt/texts.py
    padding: int | None = optional(lambda: None)
    """The id that fills every text to `length`; None: a text keeps its length."""
    is_padded_left: bool = optional(lambda: False)


@dataclass(frozen=True)
class EncodersEntry:
    """An encoder: pictures, texts or both become rows whose directions are compared.

    With both towers, `scale` times the cosine of two rows, plus `bias`, is the score of a pair. Its
    sigmoid is the probability that they belong together; or the softmax over several texts says
    which one does. With one tower, rows are compared by their cosine. If it has `labels`, the
    function `classify` gives the score of each, which is a probability by the same rule.
    """

    score: str  # SIGMOID, SOFTMAX, or COSINE without probabilities
    scale: float
    bias: float
    class_tokens: int
    """Rows before the patches of a picture, whose patch is zeros and whose positions come first."""
    text: TextEntry | None
    """None: the function `encode_text` and the tokenizer are missing."""
    labels: tuple[str, ...] = optional(tuple)
    """What the results of `classify` stand for, in their order."""


@dataclass(frozen=True)
class GraphEntry:
    """A graph that was imported as it is: arrays in, arrays out, by the names of the graph.

    They are the arguments of `encode`, in this order, and its result or the fields of its result.
    """

    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size: int
