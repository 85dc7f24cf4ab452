"""Readers of kept conversations: the whole file, and the description inside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from .reader import Reader, written


@cache
def arrays() -> dict[str, np.ndarray]:
    from kept_talk import HERE, talk

    from handglass.runtime.answer.saved_conversation import arrays_of

    return {name: np.ascontiguousarray(array) for name, array in arrays_of(talk(), HERE).items()}


def file_with(talk: bytes, path: Path) -> Path:
    """A file with this description; everything else in it is good."""
    from handglass.runtime.bundle.tensor_writer import TensorWriter

    named = {**arrays(), "talk": np.frombuffer(talk, np.uint8)}
    with TensorWriter(path, [(n, a.shape, a.dtype.name) for n, a in named.items()]) as writer:
        for name, array in named.items():
            writer.write(name, array)
    return path


@cache
def files() -> list[bytes]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return [file_with(arrays()["talk"].tobytes(), Path(folder, "talk")).read_bytes()]


def talks() -> list[bytes]:
    return [arrays()["talk"].tobytes()]


def read_file(data: bytes, folder: Path) -> None:
    _read(written(folder, "talk", data))


def read_talk(data: bytes, folder: Path) -> None:
    _read(file_with(data, folder / "talk"))


def _read(path: Path) -> None:
    """Read it, and look at all that a session and a prompt would take."""
    from kept_talk import HERE

    from handglass.runtime.answer.saved_conversation import read_conversation

    saved = read_conversation(path, HERE)
    for shown in (*(s for turn in saved.turns for s in turn.shown), *saved.waiting):
        for frame in shown.tiles:
            assert all(tile.digest and tile.rows for tile in frame)
    if saved.cache is not None:
        ids = [key for key in saved.cache.keys if isinstance(key, int)]
        assert len(saved.cache.keys) <= HERE.state.context
        assert all(0 <= token < HERE.vocab_size for token in ids)
        assert len(saved.cache.state) == len(HERE.state.tensors)


READERS = {
    "conversation": Reader(files, read_file),
    "talk": Reader(talks, read_talk),
}
