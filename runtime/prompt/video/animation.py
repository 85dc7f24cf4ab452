"""Animated GIF, WebP and PNG files as videos, decoded by Pillow frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from ...system.regular_file import open_regular
from ..pictures import limits
from ..pictures.webp import open_webp
from .timing import Timed, gif_timing, png_timing, webp_timing

if TYPE_CHECKING:
    from PIL import Image

MAX_DECODED = 20_000_000_000
"""Most pixels of all frames up to the last one shown: each builds on those before."""
CANVAS_BYTES = 12
"""Per pixel of a frame. A decoder holds the frame, what is shown, and what comes back."""


class Animation:
    """See Source."""

    def __init__(self, image: Image.Image, durations: Sequence[float]) -> None:
        self.count = len(durations)
        self.fps: float | None = 1000 * self.count / sum(durations)
        self._image = image
        self._first = int(getattr(image, "default_image", False))  # a PNG's, not of the animation

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        width, height = self._image.size
        if (indices[-1] + 1) * width * height > MAX_DECODED:
            raise InputError(
                f"{indices[-1] + 1} frames of {width} x {height} exceed the limit of "
                f"{MAX_DECODED} pixels; cut it into shorter ones"
            )
        for index in indices:
            try:
                self._image.seek(index + self._first)
            except EOFError as error:
                raise InputError(f"is cut short before frame {index + 1}") from error
            self._image.load()
            yield self._image


def animation_kind(head: bytes) -> str:
    """The kind of a file with these first bytes; "" for none of ours."""
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return "PNG" if head[:8] == b"\x89PNG\r\n\x1a\n" else ""


@contextmanager
def open_animation(path: Path, kind: str) -> Iterator[Animation]:
    """An animation. Raises InputError for a single picture, or beyond a limit."""
    timing, opener = KINDS[kind]
    with open_regular(path) as file:
        timed = timing(file)
        if len(timed.durations) < 2:
            raise InputError("is a single picture; show it with --image")
        if timed.size is not None:
            limits.check_memory(*timed.size, CANVAS_BYTES)
        timed.file.seek(0)
        yield Animation(opener(timed.file), timed.durations)


def _open_gif(file: BinaryIO) -> Image.Image:
    from PIL import GifImagePlugin

    return GifImagePlugin.GifImageFile(file)


def _open_png(file: BinaryIO) -> Image.Image:
    from PIL import PngImagePlugin

    return PngImagePlugin.PngImageFile(file)


KINDS: dict[str, tuple[Callable[[BinaryIO], Timed], Callable[[BinaryIO], Image.Image]]] = {
    "GIF": (gif_timing, _open_gif),
    "PNG": (png_timing, _open_png),
    "WebP": (webp_timing, lambda file: open_webp(file)[0]),
}
