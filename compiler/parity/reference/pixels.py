"""Conversion of an image to a strip of patches, implemented a second time.

It shares only the reading of image files with the runtime, so the comparison reveals errors in the
runtime's arithmetic and layout.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from handglass.runtime.prompt.preprocess import Picture, read_picture


def pixels(picture: Picture, image_size: int, patch_size: int) -> np.ndarray:
    """Resize to a square, scale to -1..1, and concatenate the patches. (3, p, p * n) float32"""
    size = (image_size, image_size)
    image = np.asarray(read_picture(picture).resize(size, Image.Resampling.BICUBIC))
    x = (image.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)  # (y, x, channel)
    rows = np.split(x, image_size // patch_size, axis=0)
    tiles = [tile for row in rows for tile in np.split(row, image_size // patch_size, axis=1)]
    return np.concatenate(tiles, axis=1).transpose(2, 0, 1)
