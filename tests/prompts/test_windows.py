"""The order of patches in windows, by `vision.window_levels`."""

import dataclasses

import numpy as np
import pytest
from manifests import grid_vision

from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle.entries import MethodEntry
from handglass.runtime.prompt.preprocess import Preprocessor, window_order

Patches = list[tuple[int, int]]


def by_rows(top: int, left: int, height: int, width: int, levels: int) -> Patches:
    """Patches of a rectangle: its windows by rows, each of them in the same way."""
    side = 1 << levels
    cells: Patches = []
    for row in range(top, top + height, side):
        for column in range(left, left + width, side):
            if levels:
                cells += by_rows(row, column, side, side, levels - 1)
            else:
                cells.append((row, column))
    return cells


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 8), (8, 4), (12, 20), (32, 32), (80, 4)])
def test_windows_come_by_rows(height: int, width: int, levels: int) -> None:
    expected = [row * width + column for row, column in by_rows(0, 0, height, width, levels)]
    assert window_order(height, width, levels).tolist() == expected


def test_one_level_is_written_out() -> None:
    assert window_order(2, 4, 1).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


@pytest.mark.parametrize(("levels", "multiple", "rows"), [(1, 28, 4), (2, 56, 16)])
def test_patches_ids_and_grid_are_in_the_same_order(levels: int, multiple: int, rows: int) -> None:
    random = np.random.default_rng(levels)
    picture = random.integers(0, 256, (300, 700, 3), dtype=np.uint8)
    plain = Preprocessor(grid_vision(multiple, 0)).tiles(picture)
    for before, after in zip(
        plain, Preprocessor(grid_vision(multiple, levels)).tiles(picture), strict=True
    ):
        order = window_order(after.height, after.width, levels)
        assert after.rows == len(order) // rows
        assert after.strip.flags.c_contiguous and after.strip.shape == before.strip.shape
        assert np.array_equal(patches(after.strip), patches(before.strip)[:, :, order])
        assert np.array_equal(after.position_ids, before.position_ids[order])
        assert np.array_equal(after.grid, before.grid[order])


def patches(strip: np.ndarray) -> np.ndarray:
    return strip.reshape(3, 14, -1, 14)


def test_a_grid_that_windows_do_not_divide_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"6 x 8 .*4 x 4"):
        window_order(6, 8, 2)
    whole = {"role": "picture", "left": 0, "top": 0, "right": 1, "bottom": 1}
    slicing = MethodEntry("crops", {"boxes": [whole]})
    vision = dataclasses.replace(grid_vision(), image_size=84, slicing=slicing)
    with pytest.raises(MismatchError, match="vision: a tile of 6 x 6"):
        Preprocessor(vision).tiles(np.zeros((9, 9, 3), np.uint8))


def test_slices_must_be_whole_windows() -> None:
    with pytest.raises(InputError, match="28 .*56"):
        Preprocessor(grid_vision(28, 2))
