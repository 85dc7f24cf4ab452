"""A released checkpoint, read one tensor at a time: a folder, or a GGUF file.

Tensors are converted to float32 from any stored type. Nothing is cached, and mapped pages are
released after each read, so peak memory depends on the largest tensor and not on the file size.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any, TypeVar

import numpy as np

from handglass.errors import InputError
from handglass.runtime.system.json_text import LFS_POINTER, refuse_pointer
from handglass.runtime.system.regular_file import read_regular

from .bpe_files import VOCABULARY, has_both, tokenizer_json
from .packed_tensors import PackedTensors, unpacked
from .packing import packing_of
from .sentencepiece_file import renamed_model
from .shards import Shard, open_shards, read_json
from .stored import CHUNK, FLOATS, Computed, check_finite, drop_pages, widen
from .template_file import TemplateFile, read_template
from .word_vocabulary import VOCABULARY as WORDS
from .word_vocabulary import word_json

EMBEDDING, LM_HEAD = "llm.model.embed_tokens.weight", "llm.lm_head.weight"
"""Tensor names of most multimodal checkpoints."""

# Tensors of released files that the model does not use: buffers derived from the configuration, and
# towers of related models with the same layout.
IGNORED_PREFIXES = ("mtp.", "apm.", "audio_projection_layer.", "audio_avg_pooler.", "tts.")
IGNORED_SUFFIXES = ("rotary_emb.inv_freq", ".position_ids")

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "spiece.model")
TOKENIZER_BYTES = 128 << 20
MAX_PREFIX = 200  # characters that all tensor names may begin with

C = TypeVar("C", bound="Checkpoint")
log = logging.getLogger(__name__)


class Checkpoint:
    """The configuration and the tensors of one folder."""

    def __init__(
        self, folder: Path, config: dict[str, Any], shards: Mapping[str, Shard | Computed]
    ) -> None:
        self.folder = folder
        self.config = config
        self._shards = dict(shards)
        self._names = {name: name for name in shards}
        """Tensor name -> its name in the file."""
        self._used: set[str] = set()
        self._ignored_prefixes: tuple[str, ...] = IGNORED_PREFIXES

    @classmethod
    def open(cls: type[C], folder: str | Path, allow_pickle: bool = False) -> C:
        """Read config.json and the tensor headers of a folder, but no tensor data.

        Raises InputError for a missing or damaged file, and for a pickle unless `allow_pickle`.
        """
        folder = Path(folder)
        for name in TOKENIZER_FILES:
            _refuse_pointer(folder / name)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; a checkpoint is a folder with config.json")
        config = _read_object(folder / "config.json")
        packing = packing_of(config)
        shards = cls._open_shards(folder, allow_pickle)
        return cls(folder, config, unpacked(folder, shards, packing) if packing else shards)

    _open_shards = staticmethod(open_shards)

    def generation(self) -> dict[str, Any]:
        """generation_config.json; empty if there is none. Raises InputError for a damaged one."""
        path = self.folder / "generation_config.json"
        return _read_object(path) if path.is_file() else {}

    def preprocessor(self) -> tuple[Path, dict[str, Any]] | None:
        """What is said about pictures, by the keys of preprocessor_config.json, and where; None if
        nothing. Raises InputError for a damaged file."""
        path = self.folder / "preprocessor_config.json"
        return (path, _read_object(path)) if path.is_file() else None

    def template(self) -> TemplateFile:
        """The chat template; empty if there is none. Raises InputError for a damaged file."""
        return read_template(self.folder)

    def tokenizer(self, name: str) -> Path | bytes | None:
        """The tokenizer file `name`, as its path or its content; None if there is none."""
        path = self.folder / name
        if path.is_file():
            renamed = renamed_model(path) if name == "tokenizer.model" else None
            return path if renamed is None else renamed
        if name != "tokenizer.json":
            return None
        return tokenizer_json(self.folder) or word_json(self.folder)

    def tokenizer_content(self, name: str) -> bytes | None:
        """The content of the tokenizer file `name`; None if there is none."""
        source = self.tokenizer(name)
        return read_regular(source, TOKENIZER_BYTES) if isinstance(source, Path) else source

    @property
    def tokenizer_file(self) -> str | None:
        """The name of the file that `tokenizer` would read."""
        names = (name for name in TOKENIZER_FILES if (self.folder / name).is_file())
        if (found := next(names, None)) is not None:
            return found
        if has_both(self.folder):
            return VOCABULARY
        return WORDS if (self.folder / WORDS).is_file() else None

    @property
    def has_tensors(self) -> bool:
        return bool(self._shards)

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, as stored."""
        return tuple(self._shard(name).shape(self._names[name]))

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise InputError if the tensor has another shape. Call it before `read_rows`."""
        stored = self.shape(name)
        if stored != tuple(shape):
            raise InputError(f"{name}: the shape is {stored}, but config.json requires {shape}")

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The whole tensor in float32. Raises InputError if its shape is not `shape`."""
        self.expect(name, shape)
        return self._read(name, ...)

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` in float32, for tensors too large to hold in memory."""
        rows = self.shape(name)[0]
        assert 0 <= start <= stop <= rows, f"{name}: rows {start} to {stop} of {rows}"
        return self._read(name, slice(start, stop))

    def rounded(self, name: str, x: np.ndarray, alone: bool = False) -> np.ndarray:
        """Activations x as multiplied by the weight `name`: unchanged, as nothing is quantized."""
        return x

    def extra_prefix(self, names: Iterable[str]) -> str:
        """What every tensor name begins with in addition to these names, e.g. "module."; "" if the
        checkpoint has one of the names as it is, or no such prefix."""
        names = set(names)
        if names & self._shards.keys():
            return ""
        common = os.path.commonprefix(list(self._shards))[:MAX_PREFIX]  # noqa: RUF071  any prefix
        prefixes = (common[: at + 1] for at, c in enumerate(common) if c == ".")
        found = (p for p in prefixes if any(p + name in self._shards for name in names))
        return next(found, "")

    def drop_prefix(self, prefix: str) -> None:
        """Remove a prefix from all tensor names."""
        self._names = {name.removeprefix(prefix): kept for name, kept in self._names.items()}
        self._shards = {name.removeprefix(prefix): shard for name, shard in self._shards.items()}

    def rename(self, prefixes: Mapping[str, str]) -> None:
        """Give the tensors whose names begin with one of these prefixes names with the other."""
        names = {name: _renamed(name, prefixes) for name in self._shards}
        self._names = {new: self._names[name] for name, new in names.items()}
        self._shards = {new: self._shards[name] for name, new in names.items()}

    def ignore(self, prefixes: Iterable[str]) -> None:
        """Do not report tensors with these prefixes as superfluous."""
        self._ignored_prefixes = (*self._ignored_prefixes, *prefixes)

    def left_out(self) -> dict[str, int]:
        """Prefixes of towers that are not supported, such as speech -> their number of tensors."""
        found = Counter(prefix for name in self._shards if (prefix := _tower(name)))
        return dict(sorted(found.items()))

    def unused(self, names: Collection[str]) -> list[str]:
        """The tensors that are not among these names and not among those to be ignored."""
        known = {*names, *self._used}
        left = (name for name in self._shards if name not in known and not self._is_ignored(name))
        return sorted(name for name in left if not self._is_empty_bias(name))

    def lm_head(self, tied: bool, head: str = LM_HEAD, embedding: str = EMBEDDING) -> str:
        """Name of the tensor to use as the language model head.

        With `tied`, a stored head that differs from the embedding takes precedence, with a warning.
        """
        if not tied:
            return head
        if head not in self:
            return embedding
        if self._equal(head, embedding):
            self._used.add(head)
            return embedding
        log.warning(
            "%s: config.json ties the head to the embedding, but %s differs; using the stored head",
            self.folder,
            head,
        )
        return head

    def finish(self) -> None:
        """Raise InputError if a tensor was not used and is not one of those to be ignored."""
        left = self.unused(())
        if not left:
            return
        shown = ", ".join(left[:10]) + (", ..." if len(left) > 10 else "")
        count = "1 tensor is" if len(left) == 1 else f"{len(left)} tensors are"
        raise InputError(
            f"{self.folder}: {count} not part of the model that config.json describes: {shown}"
        )

    def _is_ignored(self, name: str) -> bool:
        return name.startswith(self._ignored_prefixes) or name.endswith(IGNORED_SUFFIXES)

    def _is_empty_bias(self, name: str) -> bool:
        """Whether it is a bias of zeros beside a packed weight: some tools write one for each."""
        stem, _, end = name.rpartition(".")
        weight = self._shards.get(f"{stem}.weight")
        return end == "bias" and isinstance(weight, PackedTensors) and self._is_zero(name)

    def _is_zero(self, name: str) -> bool:
        return not self._read(name, ...).any()

    def _shard(self, name: str) -> Shard | Computed:
        if name not in self._shards:
            raise InputError(f"{self.folder}: the tensor {name} is missing")
        return self._shards[name]

    def _read(self, name: str, rows: slice | EllipsisType) -> np.ndarray:
        self._used.add(name)
        shard, stored_name = self._shard(name), self._names[name]
        if isinstance(shard, Computed):
            values = shard.floats(stored_name, slice(None) if rows is ... else rows)
            shard.release(stored_name)
        else:
            stored, dtype = shard.array(stored_name)[rows], shard.dtype(stored_name)
            if dtype not in FLOATS:
                raise InputError(f"{name}: stored as {dtype}; supported types: {', '.join(FLOATS)}")
            values = widen(stored, dtype)
            drop_pages(stored)
        check_finite(name, values)
        return values

    def _equal(self, name: str, other: str) -> bool:
        shape = self.shape(name)
        if shape != self.shape(other) or len(shape) != 2 or 0 in shape:
            return False
        rows, step = shape[0], max(1, CHUNK // shape[1])
        return all(
            np.array_equal(
                self.read_rows(name, start, min(start + step, rows)),
                self.read_rows(other, start, min(start + step, rows)),
            )
            for start in range(0, rows, step)
        )


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected an object")
    return value


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    found = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    return f"{prefixes[found]}{name.removeprefix(found)}" if found else name


def _tower(name: str) -> str | None:
    """Which of IGNORED_PREFIXES a name has."""
    return next((prefix for prefix in IGNORED_PREFIXES if name.startswith(prefix)), None)


def _refuse_pointer(path: Path) -> None:
    """Raise InputError if the file is a Git LFS pointer; a missing file is found later."""
    if path.is_file():
        with path.open("rb") as file:
            refuse_pointer(file.read(len(LFS_POINTER)), str(path))
