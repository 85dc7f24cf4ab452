"""What a reader is, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo-checkpoint"


class Reader(NamedTuple):
    """`read` is given an input and a folder for files, which may hold those of earlier inputs."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = ()
    """Errors with which it may refuse an input, besides those of handglass.errors."""


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@cache
def demo_tokenizer() -> Any:
    from handglass.runtime.prompt.tokenizer import open_tokenizer

    return open_tokenizer("sentencepiece", CHECKPOINT / "tokenizer.model", ["<image>"])
