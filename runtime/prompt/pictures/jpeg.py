"""Reads the markers of a JPEG file before it is decoded.

A progressive file is decoded scan by scan over the whole picture, so that its time is scans times
pixels, and its coefficients are all held in memory. A baseline file can be decoded at 1/2, 1/4 or
1/8 of its size, which takes little memory at any size.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from handglass.errors import InputError

from . import limits
from .ifd import orientation, xmp_orientation
from .spans import parts_of

if TYPE_CHECKING:
    from PIL import Image

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = (0xC0, 0xC1, 0xC9)  # one pass over the picture, if one scan has all components
_SCAN, _END, _APP1, _ADOBE, _JFIF = 0xDA, 0xD9, 0xE1, 0xEE, 0xE0
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_CHUNK = 1 << 16


@dataclass
class Markers:
    """What the markers of a file state."""

    width: int = 0
    height: int = 0
    components: int = 0
    samples: float = 0.0  # per pixel, over all components
    is_baseline: bool = False
    scans: int = 0
    first_scan: int = 0  # its offset
    exif: int = 0  # the orientation, 0 if not stated
    xmp: int = 0
    parts: list[tuple[int, int]] = field(default_factory=list)  # of the file, without metadata

    @property
    def orientation(self) -> int:
        return self.exif or self.xmp or 1

    @property
    def coefficient_bytes(self) -> float:
        """Bytes per pixel that the decoder holds for the whole picture."""
        return 0.0 if self.is_baseline else 2.0 * self.samples

    def needed(self, scale: int) -> float:
        """Bytes that decoding at 1/scale takes."""
        width, height = -(-self.width // scale), -(-self.height // scale)
        coefficients = self.width * self.height * self.coefficient_bytes
        pixel_bytes = 1 if self.components == 1 else 4
        return coefficients + limits.decoded_bytes(width, height, pixel_bytes)


def open_jpeg(file: BinaryIO) -> tuple[Image.Image, int]:
    """The picture, not decoded yet, and its orientation. Raises InputError beyond a limit."""
    from PIL import JpegImagePlugin

    markers = read_markers(file)
    scale = _scale(markers)
    image = JpegImagePlugin.JpegImageFile(parts_of(file, markers.parts))
    if image.size != (markers.width, markers.height):
        raise InputError("its headers contradict each other")
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    return image, markers.orientation


def _scale(markers: Markers) -> int:
    """The smallest of 1, 2, 4 and 8 by which the picture fits into the limits."""
    limits.check_pixels(markers.width, markers.height)
    if markers.scans * markers.width * markers.height > limits.SCANNED_PIXELS:
        raise InputError(
            f"{markers.scans} scans of {markers.width} x {markers.height} pixels; resize the "
            "picture, or save it as a baseline JPEG"
        )
    for scale in (1, 2, 4, 8):
        if markers.needed(scale) <= limits.MEMORY:
            return scale
    limits.check_memory(markers.width, markers.height, markers.coefficient_bytes + 4 / 64)
    raise InputError(f"{markers.width} x {markers.height}: too long for its width")


def read_markers(file: BinaryIO) -> Markers:
    """Read the markers of all scans, as the decoder finds them. Raises InputError."""
    found = Markers()
    file.seek(2)
    found.parts.append((0, 2))
    count = 0
    while (marker := _next_marker(file)) not in (None, _END):
        count += 1
        limits.check_blocks(count)
        if marker in _ALONE:
            continue
        start, length = file.tell() - 2, file.read(2)
        if len(length) < 2:
            break
        end = start + 2 + max(2, struct.unpack(">H", length)[0])
        _take(found, file, int(marker or 0), start, end)
        file.seek(end)
    if found.scans:
        found.parts.append((found.first_scan, file.seek(0, 2)))
    return found


def _take(found: Markers, file: BinaryIO, marker: int, start: int, end: int) -> None:
    """Note one segment, which is start to end with its marker; the file stands at its content."""
    if marker in _FRAMES and not found.width:
        _read_frame(found, marker, file.read(end - start - 4))
    elif marker == _SCAN:
        found.scans += 1
        found.first_scan = found.first_scan or start
        if file.read(1) != bytes([found.components]):
            found.is_baseline = False  # the components come one after another
        if found.scans > limits.SCANS:
            raise InputError(
                f"more than {limits.SCANS} scans; save it as a baseline JPEG, or as PNG"
            )
    elif marker == _APP1 and not found.exif:
        data = file.read(end - start - 4)
        if data.startswith(b"Exif\0\0"):
            found.exif = orientation(data)
        elif data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            found.xmp = xmp_orientation(data)
    is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
    if not found.scans and (not is_metadata or marker in (_ADOBE, _JFIF)):
        found.parts.append((start, end))


def _read_frame(found: Markers, marker: int, data: bytes) -> None:
    if len(data) < 6 or len(data) < 6 + 3 * data[5]:
        raise InputError("its frame header is cut")
    found.height, found.width, found.components = struct.unpack_from(">HHB", data, 1)
    factors = [(data[i + 1] >> 4, data[i + 1] & 15) for i in range(6, 6 + 3 * data[5], 3)]
    most = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
    found.samples = sum(h * v for h, v in factors) / max(1, most)
    found.is_baseline = marker in _BASELINE


def _next_marker(file: BinaryIO) -> int | None:
    """The next marker, after which the file stands; None at its end."""
    carry = b""
    while data := file.read(_CHUNK):
        data = carry + data
        if match := _MARKER.search(data):
            file.seek(match.end() - len(data), 1)
            return match[1][0]
        carry = b"\xff" if data.endswith(b"\xff") else b""
    return None
