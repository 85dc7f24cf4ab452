"""Video files of cameras and the web, decoded by FFmpeg through PyAV, which is optional.

The file is handed over open and its format is stated, so that no content makes FFmpeg open another
file or an address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import InputError

from ...system.regular_file import open_regular

if TYPE_CHECKING:
    from PIL import Image

INSTALL = "pip install 'handglass[video]'"
MAX_SECONDS = 24 * 3600.0
MAX_RATE = 1000
"""Most frames per second; fewest is one in a video of the greatest length."""
MAX_DECODED = 200_000
"""Most frames to decode, of which only some are shown."""
FAR_S = 2.0
"""A frame further ahead than this is reached by way of the key frame before it."""
MAX_PIXELS = 16_000_000
"""Of a frame, more than 5K. A decoder holds several of 1.5 to 8 bytes per pixel."""

SMALL = 0.017
"""The tangent of a degree: a turn that differs by less from a quarter is one."""


class Container:
    """See Source."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if not 1 / MAX_SECONDS <= rate <= MAX_RATE:
            raise InputError(
                f"has {rate:g} frames per second; must be {1 / MAX_SECONDS:.2g} to {MAX_RATE}"
            )
        self.fps: float | None = rate
        seconds = _seconds(container, stream) or stream.frames / rate
        if not 0 < seconds <= MAX_SECONDS:
            raise InputError(
                f"is {seconds:g} seconds long; must be above 0, at most {MAX_SECONDS:g}"
            )
        most = round(MAX_SECONDS * rate)
        self.count = min(stream.frames or max(1, round(seconds * rate)), most)
        self._start = stream.start_time or 0
        self._decoded = 0

    def frames(self, indices: Sequence[int]) -> Iterator[Image.Image]:
        """Where frames take unequal times, the one that is shown at the time of an index."""
        frame: Any = None
        following: Any = None  # decoded, but shown later
        decoded, reached = self._decode(), -1
        for index in indices:
            last = reached if following is None else self._number(following, reached)
            if index - last > FAR_S * float(self.fps or 1):
                decoded, following = self._seek(index), None
            while reached != index:
                following = following or next(decoded, None)
                if following is None:
                    break  # a file may state more frames than it has: its last one is shown
                number = self._number(following, reached)
                if frame is not None and number > index:
                    break
                frame, reached, following = following, number, None
            if frame is None:
                raise InputError("has no frame that can be decoded")
            yield _upright(frame)

    def _decode(self) -> Iterator[Any]:
        for frame in self._container.decode(self._stream):
            self._decoded += 1
            if self._decoded > MAX_DECODED:
                raise InputError(f"needs more than {MAX_DECODED} frames to be decoded; cut it")
            _check_size(frame.width, frame.height)
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


def _check_size(width: int, height: int) -> None:
    if not (width and height):
        raise InputError(f"has frames without a size, or of more than {MAX_PIXELS} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{width} x {height} pixels exceed the limit of {MAX_PIXELS}; convert it to a smaller "
            "size"
        )


def _upright(frame: Any) -> Image.Image:
    """A frame as players show it: turned by quarters or mirrored, as the file states."""
    from PIL import Image

    turn = Image.Transpose
    steps = _steps(_matrix(frame))
    image: Image.Image = frame.to_image()
    for step in steps:
        image = image.transpose(turn[step])
    return image


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d) of a frame's display matrix: (x, y) is shown at (a x + c y, b x + d y).

    Nine numbers of 32 bits by rows, of which the others move or distort the frame
    (https://ffmpeg.org/doxygen/trunk/group__lavu__video__display.html).
    """
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    return a, b, c, d


def _steps(matrix: tuple[int, int, int, int]) -> list[str]:
    """Names of PIL's transpositions in order. Turns by other angles than quarters are left out."""
    a, b, c, d = matrix
    if max(abs(b), abs(c)) <= SMALL * min(abs(a), abs(d)):
        flips = a, d
        steps = []
    elif max(abs(a), abs(d)) <= SMALL * min(abs(b), abs(c)):
        flips = c, b
        steps = ["TRANSPOSE"]
    else:
        return []
    sides = zip(("FLIP_LEFT_RIGHT", "FLIP_TOP_BOTTOM"), flips, strict=True)
    return steps + [side for side, factor in sides if factor < 0]


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
    try:
        # Opening decodes the first frames to learn their size.
        bounds = {"max_pixels": str(MAX_PIXELS)}
        with open_regular(path) as file, av.open(file, format=kind, options=bounds) as container:
            stream = _pictures(container)
            _check_size(stream.width, stream.height)
            yield Container(container, stream)
    except av.FFmpegError as error:  # some of its kinds are ValueErrors with the name of a function
        raise InputError(f"is damaged or cut short: {error.strerror}") from error


def _pictures(container: Any) -> Any:
    """The stream of pictures. The cover of a piece of music is one, too, but no video."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError("has no pictures, only sound")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise InputError("is in a format of pictures that this build of FFmpeg cannot decode")
    return stream
