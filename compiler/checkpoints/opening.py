"""Opens what people bring: a folder with config.json, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from handglass.runtime.system.regular_file import is_regular

from .checkpoint import Checkpoint
from .gguf_checkpoint import GgufCheckpoint
from .headers import Headers


def open_checkpoint(path: str | Path, allow_pickle: bool = False) -> Checkpoint:
    """Read the configuration and the tensor headers, but no tensor data.

    Raises InputError for a missing or damaged file, and for a pickle unless `allow_pickle`.
    """
    path = Path(path)
    if is_regular(path):
        return GgufCheckpoint.read_file(path)
    return Checkpoint.open(path, allow_pickle=allow_pickle)


def open_headers(path: Path, allow_pickle: bool = False) -> Checkpoint:
    """The same for a plan: a folder may have no tensors."""
    if is_regular(path):
        return GgufCheckpoint.read_file(path)
    return Headers.open(path, allow_pickle=allow_pickle)
