"""Opens a video in any form that callers pass: a file, a folder of frames, or a list of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handglass.errors import InputError

from ...system.regular_file import open_regular
from ..pictures import limits
from ..pictures.read import Picture, reading
from .animation import animation_kind, open_animation
from .container import container_kind, open_container
from .frames import Frames, frame_paths

Video = Any  # path of a file or a folder, a list of pictures, or an array (frames, h, w, 3)
READ = "GIF, WebP and PNG animations, MP4, MOV, MKV, WebM and AVI, and folders of frames are read"


class Source(Protocol):
    """A video whose frames are not decoded yet."""

    count: int
    """Number of frames."""
    fps: float | None
    """Frames per second on average; None for frames that come without times."""

    def frames(self, indices: Sequence[int]) -> Iterator[Picture]:
        """The frames with these numbers, which increase; each is valid until the next is asked for.

        Decoders raise exceptions of many types.
        """


def video_name(video: Video) -> str:
    """The name of the video in error messages."""
    if isinstance(video, str | os.PathLike):
        return f"video {os.fspath(video)!r}"
    return f"video (a list of {len(video)} frames)" if isinstance(video, Sequence) else "video"


@contextmanager
def open_video(video: Video) -> Iterator[Source]:
    """A video, open inside a `with` statement. Raises InputError.

    Decoders raise exceptions of many types: use it inside `reading`.
    """
    if isinstance(video, str | os.PathLike):
        path = Path(video)
        if path.is_dir():
            yield Frames(frame_paths(path))
        else:
            with _open_file(path) as source:
                yield source
    elif isinstance(video, np.ndarray) and video.ndim == 4:
        yield Frames(list(video))
    elif isinstance(video, Sequence) and not isinstance(video, bytes | bytearray | memoryview):
        yield Frames(video)
    else:
        kind = type(video).__name__
        raise InputError(
            "expected the path of a file or folder, a list of frames, or an array of them, got "
            f"{kind}"
        )


@contextmanager
def _open_file(path: Path) -> Iterator[Source]:
    with open_regular(path) as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(64)
    if not size:
        raise InputError("is empty")
    if kind := animation_kind(head):
        limits.check_file(size)
        with open_animation(path, kind) as animation:
            yield animation
    elif kind := container_kind(head):
        with open_container(path, kind) as container:
            yield container
    else:
        raise InputError(f"is not a video ({READ})")


def check_video(video: Video) -> None:
    """Open a video without decoding its frames. Raises InputError for one that cannot be shown."""
    with reading(video_name(video)), open_video(video):
        pass
