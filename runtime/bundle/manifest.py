"""What `manifest.json` says, as frozen dataclasses whose fields are the keys of the file.

Parsing is strict: a missing, unknown or wrongly typed key is an error that names its place.
Reading a manifest executes nothing and believes nothing about the files it lists.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handglass.errors import InputError, MismatchError

from .json_dataclass import optional, parse_dataclass, plain

FORMAT = "handglass-bundle"
VERSION = 1
LIBRARY = "lib.so"
RUNTIME_LIBRARY = "libtvm_runtime.so"
TOKENIZER_KINDS = ("sentencepiece", "tokenizers")


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
class CacheEntry:
    context: int  # positions
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True)
class VisionEntry:
    image_size: int
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    query_num: int
    positions_per_side: int


@dataclass(frozen=True)
class PromptEntry:
    bos: str
    user: str
    assistant: str
    image_start: str
    image_end: str
    unk: str
    stop: tuple[str, ...]

    @property
    def markers(self) -> tuple[str, ...]:
        """Every string that gives a prompt its structure, and that users must not."""
        tags = (self.bos, self.user, self.assistant, self.image_start, self.image_end, self.unk)
        return (*tags, *self.stop)


@dataclass(frozen=True)
class TokenizerEntry:
    kind: str  # "sentencepiece" or "tokenizers"
    file: str


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    model: ModelEntry
    target: TargetEntry
    scheme: Mapping[str, str]
    versions: Mapping[str, str]
    functions: Mapping[str, FunctionEntry]
    params: tuple[TensorEntry, ...]
    cache: CacheEntry
    vision: VisionEntry
    prompt: PromptEntry
    tokenizer: TokenizerEntry
    vocab_size: int
    hidden_size: int
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    @property
    def resident_bytes(self) -> int:
        """Weights and cache: what is in memory while it answers, intermediate results aside."""
        return sum(tensor.nbytes for tensor in (*self.params, *self.cache.tensors))

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Manifest:
        """Read the text of a manifest.json; `where` names it in errors."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"{where}: not a bundle of handglass (format is not {FORMAT!r})")
        if data.get("version") != VERSION or isinstance(data["version"], bool):
            raise MismatchError(
                f"{where}: bundle version {data.get('version')!r}, this handglass reads "
                f"{VERSION}; compile the model again"
            )
        body = {key: value for key, value in data.items() if key not in ("format", "version")}
        manifest = parse_dataclass(cls, body, where, "")
        _check_values(manifest, where)
        return manifest

    def text(self) -> str:
        """The text of manifest.json."""
        head = {"format": FORMAT, "version": VERSION}
        return json.dumps(head | plain(self), indent=1, ensure_ascii=False) + "\n"


def _check_values(manifest: Manifest, where: str) -> None:
    """What the types cannot say."""
    vision, cache = manifest.vision, manifest.cache
    tensors = (*manifest.params, *cache.tensors)
    target = manifest.target
    checks = {
        "target.device must be the name of a kind of devices": bool(
            re.fullmatch("[a-z][a-z0-9]*", target.device)
        ),
        "target.abilities must be names of true, false or numbers that are not negative": all(
            re.fullmatch("[a-z][a-z0-9_]*", name) and type(value) in (bool, int) and value >= 0
            for name, value in target.abilities.items()
        ),
        "vocab_size, hidden_size and cache.context must be positive": min(
            manifest.vocab_size, manifest.hidden_size, cache.context
        )
        > 0,
        "vision.query_num, patch_size and positions_per_side must be positive": min(
            vision.query_num, vision.patch_size, vision.positions_per_side
        )
        > 0,
        "vision.image_size must be a multiple of vision.patch_size": vision.image_size > 0
        and vision.image_size % max(vision.patch_size, 1) == 0,
        "vision.mean and vision.std must be three numbers, std not 0": len(vision.mean) == 3
        and len(vision.std) == 3
        and all(vision.std),
        "prompt.stop must name a token": bool(manifest.prompt.stop),
        f"tokenizer.kind must be one of {', '.join(TOKENIZER_KINDS)}": manifest.tokenizer.kind
        in TOKENIZER_KINDS,
        "a tensor is listed twice": len({t.name for t in tensors}) == len(tensors),
        "a tensor has a negative size": all(n >= 0 for t in tensors for n in t.shape),
        "files must list a size and 64 hexadecimal digits of sha256 each": all(
            f.size >= 0 and re.fullmatch("[0-9a-f]{64}", f.sha256) for f in manifest.files.values()
        ),
    }
    for text, holds in checks.items():
        if not holds:
            raise InputError(f"{where}: {text}")
    for name in (LIBRARY, manifest.tokenizer.file):
        if name not in manifest.files:
            raise MismatchError(f"{where}: {name!r} is needed but not listed under files")
