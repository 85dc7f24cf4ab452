"""A decoded picture as upright 8-bit RGB.

Turning or converting a picture takes a second copy of it. Where that would exceed the limit of
memory, the picture is resized in strips: rows first, then columns. Pillow takes the two in either
order, so that a result may then differ by rounding, at most by one level of 255 or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from handglass.errors import InputError

from . import limits

if TYPE_CHECKING:
    from PIL import Image

_STRIP_PIXELS = 1 << 19
_SUPPORT = 4  # rows of the source per row of the result that a filter may reach, and one
BICUBIC = "bicubic"
FILTERS = ("bilinear", BICUBIC, "lanczos")
"""Names of the filters that pictures can be resized with."""

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes per pixel by mode; 4 for all others."""

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Upright:
    """A decoded picture of any mode and orientation (1 to 8, as in EXIF)."""

    image: Image.Image
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self.image.size
        return (width, height) if self.orientation < 5 else (height, width)

    def resize(
        self, size: tuple[int, int], box: Box | None = None, filter: str = BICUBIC
    ) -> Image.Image:
        """Part `box` of the picture, resized with one of FILTERS to `size` = (w, h): RGB."""
        from PIL import Image

        width, height = self.size
        box = box or (0, 0, width, height)
        if self._copy_fits():
            return self.whole.resize(size, Image.Resampling[filter.upper()], box)
        return self._resized_in_strips(size, box, filter)

    @cached_property
    def whole(self) -> Image.Image:
        """The picture in one piece, of 4 bytes per pixel: RGB."""
        from PIL import Image

        if self._is_plain():
            return self.image
        result = Image.new("RGB", self.size)
        for start, strip in self._strips(0, self.size[1]):
            result.paste(strip, (0, start))
        return result

    def _is_plain(self) -> bool:
        return self.orientation == 1 and self.image.mode == "RGB"

    def _copy_fits(self) -> bool:
        pixel_bytes = PIXEL_BYTES.get(self.image.mode, 4)
        needed = limits.decoded_bytes(*self.size, pixel_bytes + 4)
        return self._is_plain() or needed <= limits.MEMORY

    def _resized_in_strips(self, size: tuple[int, int], box: Box, filter: str) -> Image.Image:
        from PIL import Image

        left, top, right, bottom = box
        method = Image.Resampling[filter.upper()]
        margin = _SUPPORT * max(1.0, (bottom - top) / size[1]) + 2
        narrow = Image.new("RGB", (size[0], self.size[1]))
        for start, strip in self._strips(int(top - margin), int(bottom + margin)):
            part = (left, 0, right, strip.height)
            narrow.paste(strip.resize((size[0], strip.height), method, part), (0, start))
        return narrow.resize(size, method, (0, top, size[0], bottom))

    def _strips(self, top: int, bottom: int) -> Iterator[tuple[int, Image.Image]]:
        """(first row, rows as RGB) from `top` to `bottom`, both clipped to the picture."""
        width, height = self.size
        rows = max(1, _STRIP_PIXELS // width)
        last = min(bottom, height)
        for start in range(max(0, top), last, rows):
            yield start, to_rgb(self._rows(start, min(start + rows, last)))

    def _rows(self, start: int, end: int) -> Image.Image:
        """Rows `start` to `end` of the upright picture, in the mode of the file."""
        from PIL import Image

        width, height = self.image.size
        turn = Image.Transpose
        top = (0, start, width, end)
        low = (0, height - end, width, height - start)
        near = (start, 0, end, height)
        far = (width - end, 0, width - start, height)
        box, how = {
            1: (top, None),
            2: (top, turn.FLIP_LEFT_RIGHT),
            3: (low, turn.ROTATE_180),
            4: (low, turn.FLIP_TOP_BOTTOM),
            5: (near, turn.TRANSPOSE),
            6: (near, turn.ROTATE_270),
            7: (far, turn.TRANSVERSE),
            8: (far, turn.ROTATE_90),
        }[self.orientation]
        part = self.image.crop(box)
        return part if how is None else part.transpose(how)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; alpha is dropped, 16 bits are scaled. Raises InputError for other ranges."""
    from PIL import Image

    if image.mode == "F":
        raise InputError("the range of floating-point pixels is unknown; save it as 8-bit")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bit(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBa", "La"):  # premultiplied alpha: Pillow converts it only in two steps
        image = image.convert(image.mode.replace("a", "A"))
    return image.convert("RGB")


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounded; Pillow's conversion would clip values above 255."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise InputError(f"grey values {low}..{high} exceed 16 bits; save it as 8-bit")
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
