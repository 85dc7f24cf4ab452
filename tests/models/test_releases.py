"""MiniCPM-V 2.5 to 4.5 and the o-models compiled from their folders, against torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greedy import QUESTION, check_greedy
from PIL import Image
from released import Release, write_release
from shared_releases import RESAMPLED, loaded
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.prompt.positions import position_ids
from handglass.runtime.prompt.preprocess import Layout, Tile, grid_of

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture(
    scope="module",
    params=[
        # 4.5 has what is in the others, and frames of a video that share a tile
        pytest.param(name, marks=() if name == "4.5" else pytest.mark.large)
        for name in RESAMPLED
    ],
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(tmp_path_factory, request.param)


@pytest.mark.parametrize("name", ["none", "whole", "sliced", "two"])
def test_answer(both: Any, name: str) -> None:
    """Prompt, rows of the tiles and 64 greedy tokens."""
    release, model = both
    release.check(model, name)


def noise(count: int, width: int, height: int) -> list[Image.Image]:
    arrays = np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)
    return [Image.fromarray(array) for array in arrays]


Group = tuple[list[int], list[int]]  # numbers of frames, and their times
VIDEOS: dict[str, list[tuple[dict[str, Any], list[Group]]]] = {
    "2.6": [
        ({}, [([i], [-1]) for i in range(4)]),
        ({"frames": 2}, [([1], [-1]), ([3], [-1])]),
        ({"max_slices": 1}, [([i], [-1]) for i in range(4)]),
    ],
    # Frames without times are taken to be at the model's rate, three per second.
    "4.5": [
        ({}, [([i], [-1]) for i in range(4)]),
        ({"packing": 3}, [([0, 1, 2], [0, 3, 7]), ([3], [10])]),
        ({"packing": 2, "fps": 0.5}, [([0, 1], [0, 20]), ([2, 3], [40, 60])]),
    ],
}


@pytest.mark.parametrize("case", range(3))
def test_video(both: tuple[Release, Any], case: int) -> None:
    """Prompt, rows of the frames, alone or in groups, and 64 greedy tokens."""
    release, model = both
    video = noise(4, 700, 400)
    if model.manifest.vision.video is None:
        with pytest.raises(UsageError, match=f"{release.version}.* takes no videos; .*--image"):
            model.chat(QUESTION, videos=[video])
        return
    options, groups = VIDEOS[release.version][case]
    slices = 1 if release.version == "4.5" else options.get("max_slices", 2)
    tiles = [model.prepare(frame, slices).tiles for frame in video]
    rows, blocks = [], []
    for numbers, times in groups:
        first = tiles[numbers[0]]
        blocks.append(release.block(None, [tile.role for tile in first]))
        if len(numbers) > 1:
            rows.append(release.tile_rows(*(tiles[i][0] for i in numbers), times=times))
        else:
            rows += [release.tile_rows(tile) for tile in first]
    ids = release.library.encode(release.prompt(QUESTION, blocks)).ids
    answer = model.chat(
        QUESTION, videos=[video], temp=0, repeat_penalty=1, max_tokens=64, **options
    )
    truth = release.logits([*ids, *answer.tokens], torch.cat(rows), len(ids))
    check_greedy(answer, len(ids), truth)
    assert answer.timings.image_tokens == (sum(map(len, rows)),)


@pytest.mark.parametrize(
    ("grids", "times"),
    [
        ([(3, 5), (3, 5)], [3, 8]),
        ([(4, 7)] * 6, [0, 3, 6, 10, 13, 16]),
        ([(1, 1), (5, 2), (2, 9)], [0, 7_199, 4_001]),
        ([(6, 3)], [12]),
        ([(6, 3), (6, 3)], [-1, -1]),
    ],
)
def test_frames_are_resampled_together(
    both: tuple[Release, Any], grids: list[tuple[int, int]], times: list[int]
) -> None:
    release, model = both
    if not model.session.has("resample_frames"):
        assert (release.version, model.manifest.model.architecture) != ("4.5", "MiniCPMV")
        with pytest.raises(MismatchError, match="no function 'resample_frames'"):
            model.session.function("resample_frames")
        return
    vision = model.manifest.vision
    tiles = [random_tile(vision, rows, columns) for rows, columns in grids]
    found = model.session.encode_frames([tile.arrays for tile in tiles], times)
    FLOAT32.check(found, release.tile_rows(*tiles, times=times).numpy())
    with pytest.raises(InputError, match="give each frame one"):
        model.session.encode_frames([tile.arrays for tile in tiles], times[1:])


def random_tile(vision: Any, rows: int, columns: int) -> Tile:
    ids, grid = position_ids(rows, columns, 70), grid_of(rows, columns)
    pixels = np.random.default_rng(rows).integers(0, 256, (14 * rows, 14 * columns, 3), np.uint8)
    return Tile(pixels, Layout(rows, columns, ids, grid, None, vision), "picture")


def test_a_prompt_that_is_not_certain_needs_a_template(tmp_path: Path) -> None:
    write_release(tmp_path / "checkpoint", "4.0")
    (tmp_path / "checkpoint" / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"MiniCPM-V 4\.0: .* no chat template.*\.jinja"):
        compile_model(tmp_path / "checkpoint", tmp_path / "bundle")
