"""Tiles that are padded to the largest one of their picture, as MiniCPM-V 2.5 takes them."""

from dataclasses import replace

import numpy as np
import pytest
from manifests import grid_vision
from test_grid import noise

from handglass.runtime.bundle.entries import PADDED, MethodEntry
from handglass.runtime.prompt.positions import position_ids
from handglass.runtime.prompt.preprocess import Preprocessor

PLAIN = replace(grid_vision(multiple=14, levels=0), query_num=96, patches_per_row=0)
VISION = replace(PLAIN, positions=MethodEntry(PADDED, {"side": 70}))


@pytest.mark.parametrize("size", [(300, 200), (640, 480), (1920, 1080), (4000, 300)])
def test_all_tiles_are_as_long_as_the_longest(size: tuple[int, int]) -> None:
    """Their own patches are those of other models, then come zeros without a place."""
    plain, padded = (Preprocessor(vision).tiles(noise(*size)) for vision in (PLAIN, VISION))
    longest = max(tile.height * tile.width for tile in plain)
    for one, other in zip(plain, padded, strict=True):
        count = one.height * one.width
        assert (one.height, one.width, one.role) == (other.height, other.width, other.role)
        assert other.rows == 96 and other.padding == longest - count
        assert other.strip.shape == (3, 14, 14 * longest)
        assert np.array_equal(other.strip[:, :, : 14 * count], one.strip)
        assert not other.strip[:, :, 14 * count :].any()
        assert np.array_equal(other.grid[:count], one.grid) and (other.grid[count:] == -1).all()
        assert np.array_equal(other.position_ids, position_ids(1, longest, 70))


def test_padding_is_part_of_the_key_of_a_tile() -> None:
    """The same pixels beside a larger tile are encoded again."""
    tile = Preprocessor(VISION).tiles(noise(640, 480))[-1]
    assert tile.padding
    count = tile.height * tile.width
    ids, grid = position_ids(1, count, 70), tile.grid[:count]
    alone = replace(tile, layout=replace(tile.layout, position_ids=ids, grid=grid))
    assert not alone.padding and alone.digest != tile.digest
