"""Position ids against torch, the published exceptions, and plain arithmetic."""

import dataclasses

import numpy as np
import pytest
import torch
from manifests import square

from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.bundle.entries import MethodEntry
from handglass.runtime.prompt.positions import buckets, open_positions, position_ids

# n -> patches whose id in a 70-wide table is one below floor(70 * i / n), as published.
BELOW_FLOOR = {
    25: [5, 10, 15, 20],
    49: [7, 14, 35, 42],
    50: [5, 10, 15, 20, 30, 40],
    55: [11, 22, 33, 44],
    58: [29],
    77: [55],
    82: [41],
    86: [43],
    94: [47],
    98: [7, 14, 35, 42, 56, 70, 84],
    100: [10, 20, 30, 40, 80],
    110: [11, 22, 33, 44, 66, 88],
    115: [23, 46, 69, 92],
    135: [27, 54],
    147: [21, 63, 126],
    154: [55],
    155: [62, 124],
    164: [82],
    165: [33, 66, 99, 132],
    166: [83],
    172: [86],
    175: [25, 30, 50, 55, 60, 100, 115, 140, 155],
    188: [94],
    189: [27, 54, 108, 135],
    194: [97],
    196: [14, 42, 56, 70, 84, 112, 140],
    200: [20, 40, 80, 120, 160],
}


@pytest.mark.parametrize("n", range(1, 201))
def test_seventy_positions_follow_the_published_table(n: int) -> None:
    expected = np.arange(n) * 70 // n
    expected[BELOW_FLOOR.get(n, [])] -= 1
    assert np.array_equal(buckets(n, 70), expected)


@pytest.mark.parametrize("side", [70, 8, 32, 27])
def test_every_length_is_what_torch_computes(side: int) -> None:
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    for n in range(1, 301):
        # The reference divides by a tensor element, hence float32.
        coordinates = torch.arange(0, 1 - 1e-6, 1 / torch.tensor(n, dtype=torch.int32))
        expected = torch.bucketize(coordinates, boundaries, right=True).numpy()
        if n != side:
            assert np.array_equal(buckets(n, side), expected), n


def test_a_padded_row_is_as_long_as_a_tile_may_be() -> None:
    """1120 patches; every id is of the table's first row."""
    vision = dataclasses.replace(
        square(28, 14, 4, 70), positions=MethodEntry("padded", {"side": 70})
    )
    ids_of, boundaries = open_positions(vision), torch.arange(1 / 70, 1.0, 1 / 70)
    for n in (1, 7, 70, 71, 301, 998, 1013, 1024, 1035, 1064, 1120):
        coordinates = torch.arange(0, 1 - 1e-6, 1 / torch.tensor(n, dtype=torch.int32))
        expected = torch.bucketize(coordinates, boundaries, right=True)
        assert n == 70 or ids_of(1, n).tolist() == expected.tolist()


@pytest.mark.parametrize("side", [1, 2, 8, 19, 27, 32, 64, 70, 128])
def test_a_grid_of_the_tables_own_size_is_the_identity(side: int) -> None:
    assert np.array_equal(buckets(side, side), np.arange(side))
    assert np.array_equal(position_ids(side, side, side), np.arange(side * side))


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 9), (25, 2), (3, 5), (9, 116)])
def test_ids_are_row_major_pairs_of_buckets(rows: int, cols: int) -> None:
    ids = position_ids(rows, cols, 70)
    assert ids.dtype == np.int32 and ids.shape == (rows * cols,)
    expected = [int(buckets(rows, 70)[r]) * 70 + int(buckets(cols, 70)[c])
                for r in range(rows) for c in range(cols)]  # fmt: skip
    assert ids.tolist() == expected
    assert ids.min() >= 0 and ids.max() < 4900


@pytest.mark.parametrize(("rows", "cols", "side"), [(0, 1, 70), (1, -1, 70), (1, 1, 0)])
def test_an_empty_grid_is_refused(rows: int, cols: int, side: int) -> None:
    with pytest.raises(UsageError, match=f"{rows} x {cols} grid of {side}"):
        position_ids(rows, cols, side)


@pytest.mark.parametrize(("rows", "cols"), [(4, 8), (58, 18), (80, 4), (70, 70), (100, 9)])
def test_floor_ids_are_exact_buckets(rows: int, cols: int) -> None:
    vision = dataclasses.replace(
        square(28, 14, 4, 70), positions=MethodEntry("floor", {"side": 70})
    )
    ids = open_positions(vision)(rows, cols)
    assert ids.dtype == np.int32 and ids.max() < 4900
    expected = [70 * r // rows * 70 + 70 * c // cols for r in range(rows) for c in range(cols)]
    assert ids.tolist() == expected


@pytest.mark.parametrize("kind", ["floor", "bucket"])
@pytest.mark.parametrize("side", [0, -1, 4097, 10**400])
def test_a_table_without_rows_is_refused(kind: str, side: int) -> None:
    vision = dataclasses.replace(square(28, 14, 4, 70), positions=MethodEntry(kind, {"side": side}))
    with pytest.raises(InputError, match=rf"side {side!s:.40} must be 1 to 4096"):
        open_positions(vision)


def test_an_unknown_method_is_refused() -> None:
    vision = dataclasses.replace(square(28, 14, 4, 70), positions=MethodEntry("canvas", {}))
    with pytest.raises(MismatchError, match="'canvas' is unknown; known: bucket, floor"):
        open_positions(vision)


def test_places_are_those_of_the_tile() -> None:
    entry = square(28, 14, 4, 8)
    ids = open_positions(dataclasses.replace(entry, positions=MethodEntry("place", {"side": 100})))
    assert ids(3, 2).dtype == np.int32 and ids(3, 2).tolist() == [0, 1, 100, 101, 200, 201]
    for rows, cols in ((1, 101), (1 << 24, 1)):
        with pytest.raises(InputError, match=str(rows)):
            ids(rows, cols)
