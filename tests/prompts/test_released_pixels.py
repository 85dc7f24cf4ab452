"""The strips of patches that vision towers take, bit for bit.

Those of 4.6, 4.7 and MiniCPM-OCR against the image processors of transformers, with the manifest
entry that each config.json gives; those of 2.0 to 4.5 against loops that follow a description.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from manifests import grid_vision
from PIL import Image
from released46 import AXES, CLASSES, TEXT, VISION
from test_grid import noise, random_sizes
from torch_ocr import Processor
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import (
    MiniCPMV4_6ImageProcessorPil,
)

from handglass.compiler.models import read_config
from handglass.runtime.bundle.entries import VisionEntry
from handglass.runtime.prompt.preprocess import Preprocessor, Tile

Processed = Callable[[tuple[int, int]], Any]
"""From the size of a picture to its pixel_values and target_sizes."""


def entry(version: str, mode: str | None) -> VisionEntry:
    """Of a config.json as transformers writes it; without `downsample_mode` if it is None."""
    make, model = CLASSES[version]
    text = TEXT | {"model_type": "qwen3_5_text"}
    if version == "4.7":
        text["rope_parameters"] = TEXT["rope_parameters"] | AXES
    config = make(text_config=text, vision_config=VISION, insert_layer_id=1).to_dict()
    given = {k: v for k, v in config.items() if k != "downsample_mode"}
    given |= {"architectures": [model.__name__]}
    family, parsed = read_config(given | ({"downsample_mode": mode} if mode else {}))
    found = family.vision(parsed)
    assert found is not None
    return found


def by_rows(tile: Tile) -> np.ndarray:
    """The strip with its patches row by row, as the processors leave them."""
    patches = tile.strip.reshape(3, 14, -1, 14)
    turned = np.empty_like(patches)
    turned[:, :, tile.grid[:, 0] * tile.width + tile.grid[:, 1]] = patches
    return turned.reshape(tile.strip.shape)


@cache
def pillow(mode: str, size: tuple[int, int]) -> Any:
    """4.6's processor, which transformers registers for 4.7 too."""
    half = [0.5] * 3
    return MiniCPMV4_6ImageProcessorPil(downsample_mode=mode, image_mean=half, image_std=half)(
        [noise(*size)]
    )


# --- 2.0 to 4.5, reimplemented from their description ---


def ensure(length: float, unit: int) -> int:
    return max(round(length / unit) * unit, unit)


def best_resize(width: float, height: float, enlarge: bool) -> tuple[int, int]:
    if width * height > 448 * 448 or enlarge:
        ratio = width / height
        height = int(448 / math.sqrt(ratio))
        width = int(height * ratio)
    return ensure(width, 14), ensure(height, 14)


def described_tiles(image: Image.Image) -> list[np.ndarray]:
    """The tiles, by loops and from the sentences of the description."""
    width, height = image.size
    bicubic = Image.Resampling.BICUBIC
    wanted = min(math.ceil(width * height / (448 * 448)), 9)
    if wanted <= 1:
        return [np.asarray(image.resize(best_resize(width, height, True), bicubic))]
    best, error = (0, 0), math.inf
    for count in (wanted - 1, wanted, wanted + 1):
        if count == 1 or count > 9:
            continue
        for columns in range(1, count + 1):
            if count % columns == 0:
                rows = count // columns
                difference = abs(math.log(width / height) - math.log(columns / rows))
                if difference < error:
                    best, error = (columns, rows), difference
    columns, rows = best
    wide, high = best_resize(
        ensure(width, columns) / columns, ensure(height, rows) / rows, enlarge=True
    )
    refined = np.asarray(image.resize((wide * columns, high * rows), bicubic))
    tiles = [np.asarray(image.resize(best_resize(width, height, False), bicubic))]
    for row in range(rows):
        for column in range(columns):
            tiles.append(
                refined[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
            )
    return tiles


def described(size: tuple[int, int]) -> dict[str, Any]:
    """The strip of all tiles, its columns by loops: section by section of the description."""
    tiles = described_tiles(Image.fromarray(np.asarray(noise(*size))))
    columns = [
        (patch.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        for tile in tiles
        for band in np.split(tile, len(tile) // 14)
        for patch in np.split(band, band.shape[1] // 14, axis=1)
    ]
    return {
        "pixel_values": [np.concatenate(columns, axis=1).transpose(2, 0, 1)],
        "target_sizes": [[len(tile) // 14, tile.shape[1] // 14] for tile in tiles],
    }


RELEASES: dict[str, tuple[VisionEntry, Processed]] = {
    "2.0 to 4.5": (grid_vision(multiple=14, levels=0), described),
    "4.6": (entry("4.6", None), lambda size: pillow("16x", size)),
    "4.6-4x": (entry("4.6", "4x"), lambda size: pillow("4x", size)),
    "4.7": (entry("4.7", None), lambda size: pillow("16x", size)),
    "OCR": (entry("OCR", None), lambda size: Processor().tiles(noise(*size), "always")),
}
SIZES = [(w, h) for w, h in random_sizes(400, 8) if w * h < 500_000][:50]


@pytest.mark.parametrize("release", RELEASES)
def test_pixels(release: str) -> None:
    vision, processed = RELEASES[release]
    preprocessor = Preprocessor(vision)
    for size in SIZES:
        found, tiles = processed(size), preprocessor.tiles(noise(*size))
        shapes = [[tile.height, tile.width] for tile in tiles]
        assert np.asarray(found["target_sizes"]).tolist() == shapes, size
        strip = np.concatenate([by_rows(tile) for tile in tiles], axis=2)
        assert np.array_equal(np.asarray(found["pixel_values"][0]), strip), size


def test_the_sizes_differ_between_releases() -> None:
    """Otherwise one of them would have been enough."""
    counts = {
        name: [sum(tile.rows for tile in Preprocessor(vision).tiles(noise(*s))) for s in SIZES[:5]]
        for name, (vision, _) in RELEASES.items()
    }
    assert counts["4.6"] == counts["4.7"] != counts["4.6-4x"] == counts["OCR"]
    assert any(len(Preprocessor(RELEASES["4.6"][0]).tiles(noise(*s))) > 3 for s in SIZES)
