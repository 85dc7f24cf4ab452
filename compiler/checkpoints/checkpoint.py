"""A released checkpoint folder, read one tensor at a time.

Tensors come out as float32 whatever they are stored in; nothing is kept, and pages of the mapped
file are given back as soon as they have been read, so that memory follows the largest tensor and
not the file. Knows names and numbers, not what a model does with them.
"""

from __future__ import annotations

import logging
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError

from .shards import Shard, open_shards, read_json

EMBEDDING_NAME, HEAD_NAME = "model.embed_tokens.weight", "lm_head.weight"
"""Of a language model; in a larger one they have a prefix."""
EMBEDDING, LM_HEAD = f"llm.{EMBEDDING_NAME}", f"llm.{HEAD_NAME}"

# Tensors of released files that hold nothing we compute with: buffers that are derived from the
# configuration, and the towers of relatives that share the layout.
IGNORED_PREFIXES = ("mtp.", "apm.", "audio_projection_layer.", "audio_avg_pooler.", "tts.")
IGNORED_SUFFIXES = ("rotary_emb.inv_freq", ".position_ids")

FLOATS = ("float32", "float16", "bfloat16")
CHUNK = 1 << 22  # elements looked at in one go

log = logging.getLogger(__name__)


class Checkpoint:
    """The configuration and the tensors of one folder."""

    def __init__(self, folder: Path, config: dict[str, Any], shards: dict[str, Shard]) -> None:
        self.folder = folder
        self.config = config
        self._shards = shards
        self._used: set[str] = set()

    @classmethod
    def open(cls, folder: str | Path, allow_pickle: bool = False) -> Checkpoint:
        """Read config.json and the tensor headers; no tensor is read yet."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; a checkpoint is a folder with config.json")
        config = read_json(folder / "config.json")
        if not isinstance(config, dict):
            raise InputError(f"{folder / 'config.json'}: expected an object")
        return cls(folder, config, open_shards(folder, allow_pickle))

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one tensor, as stored."""
        return tuple(self._shard(name).shape(name))

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a tensor of any other shape; for those that are read in rows."""
        found = self.shape(name)
        if found != tuple(shape):
            raise InputError(f"{name}: the shape is {found}, but config.json asks for {shape}")

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The whole tensor in float32, which must have this shape."""
        self.expect(name, shape)
        return self._convert(name, self._stored(name))

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of a tensor in float32, for those too big to hold at once."""
        rows = self.shape(name)[0]
        assert 0 <= start <= stop <= rows, f"{name}: rows {start} to {stop} of {rows}"
        return self._convert(name, self._stored(name)[start:stop])

    def rounded(self, name: str, x: np.ndarray) -> np.ndarray:
        """Rows x as they meet the weight `name`: here as they are."""
        return x

    def lm_head(self, tied: bool, prefix: str = "llm.") -> str:
        """The tensor to use as language model head; a head that is stored beats a tied one."""
        head, embedding = f"{prefix}{HEAD_NAME}", f"{prefix}{EMBEDDING_NAME}"
        if not tied:
            return head
        if head not in self:
            return embedding
        if self._equal(head, embedding):
            self._used.add(head)
            return embedding
        log.warning(
            "%s: config.json ties the head to the embedding, but %s differs from it: using it",
            self.folder,
            head,
        )
        return head

    def finish(self) -> None:
        """Every tensor must have been used, or be one of those that carry no weights of ours."""
        left = [name for name in self._shards if name not in self._used and not _ignored(name)]
        if not left:
            return
        shown = ", ".join(sorted(left)[:10]) + (", ..." if len(left) > 10 else "")
        count = "1 tensor is" if len(left) == 1 else f"{len(left)} tensors are"
        raise InputError(
            f"{self.folder}: {count} not part of the model that config.json describes: {shown}"
        )

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            raise InputError(f"{self.folder}: the tensor {name} is missing")
        return self._shards[name]

    def _stored(self, name: str) -> np.ndarray:
        self._used.add(name)
        return self._shard(name).array(name)

    def _convert(self, name: str, stored: np.ndarray) -> np.ndarray:
        dtype = self._shard(name).dtype(name)
        if dtype not in FLOATS:
            raise InputError(f"{name}: stored as {dtype}, but only {', '.join(FLOATS)} are weights")
        values = widen(stored, dtype)
        _drop_pages(stored)
        _check_finite(name, values)
        return values

    def _equal(self, name: str, other: str) -> bool:
        if self.shape(name) != self.shape(other):
            return False
        rows = self.shape(name)[0]
        step = max(1, CHUNK // self.shape(name)[1])
        return all(
            np.array_equal(
                self.read_rows(name, start, min(start + step, rows)),
                self.read_rows(other, start, min(start + step, rows)),
            )
            for start in range(0, rows, step)
        )


def widen(stored: np.ndarray, dtype: str) -> np.ndarray:
    """A float32 copy; bfloat16 comes as bit patterns, the upper half of a float32."""
    values = np.empty(stored.shape, np.float32)
    if dtype == "bfloat16":
        np.left_shift(stored, 16, out=values.view(np.uint32), dtype=np.uint32)
    else:
        values[...] = stored
    return values


def _ignored(name: str) -> bool:
    return name.startswith(IGNORED_PREFIXES) or name.endswith(IGNORED_SUFFIXES)


def _check_finite(name: str, values: np.ndarray) -> None:
    flat = values.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        if not np.isfinite(flat[start : start + CHUNK]).all():
            raise InputError(f"{name}: holds NaN or infinity; the checkpoint is damaged")


def _drop_pages(array: np.ndarray) -> None:
    """Give mapped pages back; they stay in the system's cache but leave this process."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if not isinstance(owner, mmap.mmap) or not array.flags.c_contiguous or not array.nbytes:
        return
    start = array.ctypes.data - np.frombuffer(owner, np.uint8, 1).ctypes.data
    page = start - start % mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, page, start + array.nbytes - page)
