"""Conversion of an image to strips of patches, implemented a second time.

It shares only the reading of image files with the runtime, so the comparison reveals errors in the
runtime's arithmetic, slicing and layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from handglass.runtime.prompt.preprocess import Picture, read_picture


@dataclass(frozen=True, eq=False)
class Pixels:
    """One tile of a picture; its patches are ordered by rows."""

    strip: np.ndarray  # (3, p, p * rows * cols) float32
    rows: int
    cols: int

    def reordered(self, order: np.ndarray) -> np.ndarray:
        """The strip with its patches in another order."""
        patches = np.split(self.strip, self.rows * self.cols, axis=2)
        return np.concatenate([patches[number] for number in order], axis=2)


def square(picture: Picture, image_size: int, patch_size: int) -> Pixels:
    """The whole picture, resized to a square."""
    size = (image_size, image_size)
    return cut(read_picture(picture).resize(size, Image.Resampling.BICUBIC), patch_size)


def cut(picture: Image.Image, patch_size: int) -> Pixels:
    """Scale to -1..1 and concatenate the patches."""
    image = np.asarray(picture)
    height, width = (side // patch_size for side in image.shape[:2])
    x = (image.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)  # (y, x, channel)
    rows = np.split(x, height, axis=0)
    tiles = [tile for row in rows for tile in np.split(row, width, axis=1)]
    return Pixels(np.concatenate(tiles, axis=1).transpose(2, 0, 1), height, width)
