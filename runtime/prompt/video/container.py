"""Video files of cameras and the web, decoded by FFmpeg through PyAV, which is optional.

The file is handed over open and its format is stated, so that no content makes FFmpeg open another
file or an address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import InputError

from ...system.regular_file import open_regular
from ..pictures import limits

if TYPE_CHECKING:
    from PIL import Image

INSTALL = "pip install 'handglass[video]'"
MAX_SECONDS = 24 * 3600.0
MAX_DECODED = 200_000
"""Most frames to decode, of which only some are shown."""
FAR_S = 2.0
"""A frame further ahead than this is reached by way of the key frame before it."""
FRAME_BYTES = 16
"""Per pixel of a frame: several frames of 1.5 to 3 bytes in the decoder, and the one shown."""


class Container:
    """See Source."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        rate = stream.average_rate or stream.guessed_rate
        if not rate or not 0 < float(rate) <= 1000:
            raise InputError(f"has {rate!s:.40} frames per second; must be above 0, at most 1000")
        self.fps: float | None = float(rate)
        seconds = _seconds(container, stream)
        if not 0 < seconds <= MAX_SECONDS:
            raise InputError(f"is {seconds:g} seconds long; must be above 0, at most {MAX_SECONDS}")
        most = round(MAX_SECONDS * float(rate))
        self.count = min(stream.frames or max(1, round(seconds * float(rate))), most)
        self._start = stream.start_time or 0
        self._decoded = 0

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        frame: Any = None
        decoded, reached = self._decode(), -1
        for index in indices:
            if index - reached > FAR_S * float(self.fps or 1):
                decoded = self._seek(index)
            while reached < index:
                following = next(decoded, None)
                if following is None:
                    break  # a file may state more frames than it has: its last one is shown
                frame, reached = following, self._number(following, reached)
            if frame is None:
                raise InputError("has no frame that can be decoded")
            yield _upright(frame)

    def _decode(self) -> Iterator[Any]:
        for frame in self._container.decode(self._stream):
            self._decoded += 1
            if self._decoded > MAX_DECODED:
                raise InputError(f"needs more than {MAX_DECODED} frames to be decoded; cut it")
            limits.check_memory(frame.width, frame.height, FRAME_BYTES)
            yield frame

    def _seek(self, index: int) -> Iterator[Any]:
        """The frames from the key frame before frame `index`."""
        offset = index / float(self.fps or 1) / float(self._stream.time_base)
        self._container.seek(self._start + int(offset), stream=self._stream)
        return self._decode()

    def _number(self, frame: Any, before: int) -> int:
        """The number of a frame by its time; without one it is the next."""
        if frame.pts is None:
            return before + 1
        seconds = float((frame.pts - self._start) * self._stream.time_base)
        return round(seconds * float(self.fps or 1))


def _upright(frame: Any) -> Image.Image:
    """A frame as the camera was held; FFmpeg states quarter turns, counterclockwise."""
    from PIL import Image

    turn = Image.Transpose
    turns = {90: turn.ROTATE_90, 180: turn.ROTATE_180, 270: turn.ROTATE_270}
    image: Image.Image = frame.to_image()
    how = turns.get(getattr(frame, "rotation", 0) % 360)
    return image if how is None else image.transpose(how)


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1_000_000


def container_kind(head: bytes) -> str:
    """FFmpeg's name of the format of a file with these first bytes; "" for none of ours."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else ""


@contextmanager
def open_container(path: Path, kind: str) -> Iterator[Container]:
    """A video file. Raises InputError without PyAV, without pictures, or beyond a limit."""
    try:
        import av
    except ImportError as error:
        raise InputError(f"reading this format needs PyAV: {INSTALL}") from error
    with open_regular(path) as file, av.open(file, format=kind) as container:
        if not container.streams.video:
            raise InputError("has no pictures, only sound")
        stream = container.streams.video[0]
        limits.check_memory(stream.width, stream.height, FRAME_BYTES)
        yield Container(container, stream)
