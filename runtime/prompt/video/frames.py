"""Videos as separate pictures: a folder of files, or a list. They come without times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from handglass.errors import InputError

from ..pictures.read import Picture
from ..pictures.suffixes import SUFFIXES
from .timing import MAX_FRAMES

_NUMBER = re.compile("([0-9]+)")


class Frames:
    """See Source. Raises InputError for no pictures, or too many."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        if not 0 < len(pictures) <= MAX_FRAMES:
            raise InputError(f"has {len(pictures)} frames, must have 1 to {MAX_FRAMES}")
        self.fps: float | None = None
        self.count = len(pictures)
        self._pictures = pictures

    def frames(self, indices: Sequence[int]) -> Iterator[Picture]:
        return (self._pictures[index] for index in indices)


def frame_paths(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order of the numbers in their names. Raises InputError."""
    entries = list(islice(folder.iterdir(), MAX_FRAMES + 1))
    if len(entries) > MAX_FRAMES:
        raise InputError(f"the folder has more than {MAX_FRAMES} files")
    paths = [path for path in entries if _is_frame(path)]
    if not paths:
        raise InputError(f"the folder has no pictures ({', '.join(SUFFIXES)})")
    return sorted(paths, key=lambda path: (natural_key(path.name), path.name))


def _is_frame(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts `frame-9` before `frame-10`: numbers by value, text without regard to case."""
    parts = enumerate(_NUMBER.split(name))
    return [(int(part), "") if i % 2 else (0, part.casefold()) for i, part in parts]
