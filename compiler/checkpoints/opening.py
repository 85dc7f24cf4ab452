"""Opens a checkpoint of any kind."""

from __future__ import annotations

from pathlib import Path

from handglass.runtime.system.regular_file import is_regular

from .checkpoint import Checkpoint
from .gguf_checkpoint import GgufCheckpoint


def open_checkpoint(path: str | Path, allow_pickle: bool = False) -> Checkpoint:
    """A folder or a GGUF file: its configuration and the tensor headers, but no tensor data.

    Raises InputError for a missing or damaged file, and for a pickle unless `allow_pickle`.
    """
    path = Path(path)
    return (
        GgufCheckpoint.read_file(path) if is_regular(path) else Checkpoint.open(path, allow_pickle)
    )
