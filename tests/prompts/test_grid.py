"""The slicing method `grid` against worked examples, transformers and an independent planner."""

import math
import random
from typing import Any

import numpy as np
import pytest
from manifests import grid_vision
from PIL import Image

from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.entries import VisionEntry
from handglass.runtime.prompt.grid_plan import Grid, plan
from handglass.runtime.prompt.pictures.upright import Upright
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.prompt.slicing import MAX_PIXELS, Crop, open_slicer

Size = tuple[int, int]
PUBLISHED = Grid(448, 14, 9)
# picture -> overview, (columns, rows), slice, tiles; sizes are width x height.
WORKED: dict[Size, tuple[Size, Size, Size, int]] = {
    (448, 448): ((448, 448), (0, 0), (0, 0), 1),
    (224, 224): ((448, 448), (0, 0), (0, 0), 1),
    (100, 100): ((448, 448), (0, 0), (0, 0), 1),
    (600, 300): ((630, 322), (0, 0), (0, 0), 1),
    (100, 333): ((252, 812), (0, 0), (0, 0), 1),
    (640, 480): ((518, 392), (2, 1), (364, 546), 3),
    (450, 450): ((448, 448), (1, 2), (630, 322), 3),
    (897, 448): ((630, 322), (2, 1), (448, 448), 3),
    (1000, 1000): ((448, 448), (2, 2), (448, 448), 5),
    (1344, 1344): ((448, 448), (3, 3), (448, 448), 10),
    (1920, 1080): ((602, 336), (4, 2), (420, 476), 9),
    (4000, 300): ((1624, 126), (7, 1), (616, 322), 8),
    (300, 4000): ((126, 1638), (1, 7), (322, 616), 8),
}


def noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width * 10_007 + height)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def crops(vision: VisionEntry, image: Image.Image) -> list[Crop]:
    return open_slicer(vision)(Upright(image))


@pytest.mark.parametrize("size", WORKED)
def test_the_worked_examples(size: Size) -> None:
    whole, shape, part, count = WORKED[size]
    tiles = plan(size, PUBLISHED)
    assert (tiles.whole, (tiles.columns, tiles.rows), tiles.slice) == (whole, shape, part)
    assert 1 + len(list(tiles.boxes)) == count


# --- transformers: MiniCPM-V 4.6 ---


def processor(**options: Any) -> Any:
    module = pytest.importorskip("transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6")
    return module.MiniCPMV4_6ImageProcessorPil(**options)


def random_sizes(count: int, seed: int) -> list[Size]:
    """Of all areas, and up to 1:100."""
    rng = random.Random(seed)
    sizes: list[Size] = []
    while len(sizes) < count:
        area, aspect = math.exp(rng.uniform(3, 17)), math.exp(rng.uniform(-4.6, 4.6))
        size = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if min(size) and max(size) <= 100 * min(size):
            sizes.append(size)
    return sizes


@pytest.mark.parametrize(("mode", "multiple"), [("16x", 56), ("4x", 28)])
@pytest.mark.parametrize("most", [9, 4, 1])
def test_the_plan_is_that_of_transformers(mode: str, multiple: int, most: int) -> None:
    theirs = processor()
    for width, height in random_sizes(300, most):
        size = (height, width)
        shape = theirs.get_sliced_grid(size, most, 448)
        whole = theirs.find_best_resize(size, 448, 14, mode, allow_upscale=shape is None)
        tiles = plan((width, height), Grid(448, multiple, most))
        assert tiles.whole == whole[::-1], size
        assert (tiles.rows, tiles.columns) == tuple(shape or (0, 0)), size
        if shape:
            refined = theirs.get_refine_size(size, shape, 448, 14, mode, allow_upscale=True)
            assert tiles.refined == refined[::-1], size


# --- roles, orientation, limits ---


@pytest.mark.parametrize(
    ("size", "roles"),
    [
        ((100, 100), "picture"),
        ((640, 480), "overview slice last"),
        ((480, 640), "overview row_end last"),
        ((1920, 1080), "overview slice slice slice row_end slice slice slice last"),
    ],
)
def test_roles_tell_where_rows_end(size: Size, roles: str) -> None:
    found = crops(grid_vision(multiple=14, levels=0), Image.new("RGB", size))
    assert [crop.role for crop in found] == roles.split()


@pytest.mark.parametrize("orientation", [6, 8, 3])
def test_a_turned_picture_is_sliced_upright(orientation: int) -> None:
    turn = {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    picture = noise(900, 500)
    upright = picture.transpose(turn.get(orientation, Image.Transpose.ROTATE_180))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.getexif()[0x0112] = orientation
    turned = Preprocessor(grid_vision()).tiles(picture)
    expected = Preprocessor(grid_vision()).tiles(upright)
    assert [t.digest for t in turned] == [t.digest for t in expected]
    assert [t.role for t in turned] == [t.role for t in expected]


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (45, 4500), (9000, 90)])
def test_long_pictures_work_up_to_the_limit(size: Size) -> None:
    tiles = Preprocessor(grid_vision()).tiles(Image.new("RGB", size))
    assert all(t.height % 4 == t.width % 4 == 0 and t.rows > 0 for t in tiles)


@pytest.mark.parametrize("size", [(1, 101), (101, 1), (9001, 90)])
def test_longer_pictures_are_refused_with_their_name(size: Size) -> None:
    sizes = f"{size[0]} x {size[1]}"
    with pytest.raises(InputError, match=rf"^picture \(Image\): {sizes} .*100 times.*crop"):
        Preprocessor(grid_vision()).tiles(Image.new("RGB", size))


def test_no_tile_is_larger_than_announced() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        multiple = rng.choice([1, 2, 14, 28, 56])
        grid = Grid(rng.randint(multiple, 500), multiple, rng.choice([1, 2, 7, 9, 100]))
        (size,) = random_sizes(1, rng.randrange(10**9))
        tiles = plan(size, grid)
        for width, height in filter(all, (tiles.whole, tiles.slice)):
            assert width * height <= grid.largest_tile, (size, grid)


# --- the number of slices ---


def test_fewer_slices_can_be_asked_for() -> None:
    preprocessor = Preprocessor(grid_vision())
    picture = noise(1000, 1000)
    counts = [len(preprocessor.tiles(picture, most)) for most in (None, 9, 4, 2, 1)]
    assert counts == [5, 5, 5, 3, 1]
    assert [tile.role for tile in preprocessor.tiles(picture, 1)] == ["picture"]


@pytest.mark.parametrize("most", [0, -1, 10, True, 2.0])
def test_a_wrong_number_of_slices_is_refused(most: Any) -> None:
    with pytest.raises(UsageError, match=f"max_slices={most!r} must be 1 to 9"):
        Preprocessor(grid_vision()).tiles(noise(20, 20), most)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "400 digits": ({"max_slices": 10**400}, "max_slices 1000.* must be 1 to 100"),
    "resolution": ({"resolution": 0}, "resolution 0 must be 1 to 2048"),
    "huge resolution": ({"resolution": 4096}, "resolution 4096 must be"),
    "large resolution": ({"resolution": 2048}, f"more than .* {MAX_PIXELS} pixels"),
    "multiple": ({"multiple": 14}, "multiple 14 must be a multiple of 56"),
    "no multiple": ({"multiple": 0}, "multiple 0 must"),
    "large multiple": ({"multiple": 560}, "multiple 560 .*at most the resolution"),
    "no slices": ({"max_slices": 0}, "max_slices 0 must be 1 to 100"),
    "many slices": ({"max_slices": 101}, "max_slices 101 must be 1 to 100"),
    "slices in all": ({"max_slices": 60}, f"{MAX_PIXELS} pixels together"),
    "missing": ({"max_slices": None}, "max_slices.*must be int"),
    "unknown": ({"slices": 3}, "parameters.slices.*unknown"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_refused_when_the_bundle_is_opened(case: str) -> None:
    parameters, message = BAD[case]
    with pytest.raises(InputError, match=message):
        Preprocessor(grid_vision(**parameters))
