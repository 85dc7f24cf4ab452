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
    """One tile of a picture; its patches are ordered by rows, and padding may follow them."""

    strip: np.ndarray  # (3, p, p * n) float32, n = rows * cols without padding
    rows: int
    cols: int

    def reordered(self, order: np.ndarray) -> np.ndarray:
        """The strip with its patches in another order; padding stays where it is."""
        patches = np.split(self.strip, self.strip.shape[2] // self.strip.shape[1], axis=2)
        last = patches[len(order) :]
        return np.concatenate([*(patches[number] for number in order), *last], axis=2)


def padded(tiles: list[Pixels]) -> list[Pixels]:
    """The tiles with zeros after their patches, all as long as the longest."""
    longest = max(tile.strip.shape[2] for tile in tiles)
    found = []
    for tile in tiles:
        strip = np.zeros((*tile.strip.shape[:2], longest), np.float32)
        strip[:, :, : tile.strip.shape[2]] = tile.strip
        found.append(Pixels(strip, tile.rows, tile.cols))
    return found


def square(picture: Picture, image_size: int, patch_size: int) -> Pixels:
    """The whole picture, resized to a square."""
    size = (image_size, image_size)
    return cut(read_picture(picture).resize(size, Image.Resampling.BICUBIC), patch_size)


def cut(picture: Image.Image, patch_size: int) -> Pixels:
    """Scale to -1..1 and concatenate the patches."""
    image = np.asarray(picture)
    return patches_of(
        (image.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5), patch_size
    )


def patches_of(x: np.ndarray, patch_size: int) -> Pixels:
    """Normalized pixels (h, w, 3) float32 as a strip of patches."""
    height, width = (side // patch_size for side in x.shape[:2])
    rows = np.split(x, height, axis=0)
    tiles = [tile for row in rows for tile in np.split(row, width, axis=1)]
    return Pixels(np.concatenate(tiles, axis=1).transpose(2, 0, 1), height, width)
