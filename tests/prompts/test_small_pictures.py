"""Pictures that keep their size: sizes and pixels against the image processor of transformers."""

from dataclasses import replace

import numpy as np
import pytest
from manifests import grid_vision
from PIL import Image, ImageDraw, ImageFont
from thinned import thinned
from torch_ocr import Processor, boxes_of, replace_opencv

from handglass.compiler.parity.reference import sliced
from handglass.runtime.bundle.entries import GRIDS
from handglass.runtime.prompt.letters import components, letter_heights, otsu_threshold
from handglass.runtime.prompt.preprocess import Preprocessor

METHODS = {rule: method for method, rule in GRIDS.items()}
SIZES = [
    *[(60, 40), (100, 60), (83, 75), (84, 75), (5, 90), (300, 200), (448, 448), (447, 449)],
    *[(450, 450), (700, 500), (897, 448), (1300, 300), (300, 1000), (1100, 900)],
]


def page(size: tuple[int, int], height: int, share: float = 1.0) -> Image.Image:
    """Lines of letters of about `height` pixels on the upper `share` of a page."""
    rng = np.random.default_rng(sum(size) + height)
    image = Image.new("RGB", size, (250, 248, 240))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(height / 0.7)
    for y in range(2, int(size[1] * share), height * 2):
        text = "".join(chr(c) for c in rng.integers(97, 123, 3 + size[0] // height))
        draw.text((3, y), text, (20, 20, 60), font)
    return image


@pytest.mark.parametrize(("rule", "size"), thinned(5, METHODS, SIZES))
def test_tiles(monkeypatch: pytest.MonkeyPatch, rule: str, size: tuple[int, int]) -> None:
    """Of pages with small letters, half of them on one that is half empty, and with large ones."""
    replace_opencv(monkeypatch)
    vision = grid_vision(28, 1)
    vision = replace(vision, slicing=replace(vision.slicing, kind=METHODS[rule]))
    heights = {"adaptive": ((5, 1.0), (7, 0.4), (20, 1.0))}.get(rule, ((7, 0.4),))
    for picture in (page(size, *lines) for lines in heights):
        truth = Processor().tiles(picture, rule)
        tiles = Preprocessor(vision).tiles(picture)
        sizes = truth["target_sizes"].tolist()
        assert [[t.height, t.width] for t in tiles] == sizes
        again = sliced(picture, 14, 448, 28, 9, rule)
        assert [[t.rows, t.cols] for t in again] == sizes
        strip = truth["pixel_values"][0].numpy()
        assert np.array_equal(np.concatenate([t.strip for t in again], axis=2), strip)
        assert sorted_patches(np.concatenate([t.strip for t in tiles], axis=2)) == (
            sorted_patches(strip)
        )


def sorted_patches(strip: np.ndarray) -> list[bytes]:
    """The patches in an order of their own; the runtime has them by windows."""
    return sorted(patch.tobytes() for patch in np.split(strip, strip.shape[2] // 14, axis=2))


def test_the_rules_differ() -> None:
    """Otherwise the tests above would prove nothing about them."""
    counts = {
        (rule, height): sum(
            t.rows * t.cols for t in sliced(page((900, 700), height, 0.5), 14, 448, 28, 9, rule)
        )
        for rule in METHODS
        for height in (5, 20)
    }
    assert counts["adaptive", 20] < counts["adaptive", 5] < counts["always", 5]
    assert counts["never", 5] == counts["always", 5]


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (57, 83)])
def test_components(shape: tuple[int, int], density: float) -> None:
    check_components(np.random.default_rng(shape[1]).random(shape) < density)


def test_a_spiral_is_one_component() -> None:
    """Labels have a long way from one end to the other."""
    ink = np.zeros((61, 61), bool)
    y, x, length = 0, 0, 60
    ink[0, 0] = True
    for turn in range(26):
        dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(length):
            y, x = y + dy, x + dx
            ink[y, x] = True
        length -= 4 * (turn % 2)
    check_components(ink)
    assert len(components(ink).areas) == 1


def check_components(ink: np.ndarray) -> None:
    found, boxes = components(ink), boxes_of(ink)
    measured = zip(found.widths, found.heights, found.areas, strict=True)
    assert sorted(map(tuple, measured)) == sorted(box[2:] for box in boxes)


def test_an_even_picture_has_no_letters() -> None:
    for value in (0, 128, 255):
        gray = np.full((20, 30), value, np.uint8)
        assert otsu_threshold(gray) == 0
        assert len(letter_heights(gray)) == 0
