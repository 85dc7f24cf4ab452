"""The releases 2.6, 4.0 and 4.5 on a Vulkan device: biases of q, k and v, scaled rotations, norms
of heads. The tokens are those of torch.

Part of `make test-vulkan`; skipped where there is no device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from greedy import QUESTION, check_greedy
from released import Release, write_release
from test_releases import random_tile
from tolerance import FLOAT32
from vulkan_running import needs_vulkan

import handglass
from handglass.compiler.build import compile_model

pytestmark = [pytest.mark.vulkan, pytest.mark.compiler, pytest.mark.slow, needs_vulkan]


@pytest.fixture(scope="module", params=["2.6", "4.0", "4.5"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Release, Any]:
    folder = tmp_path_factory.mktemp("release")
    release = write_release(folder / "checkpoint", request.param)
    options: dict[str, Any] = {"quantization": "f32", "context": 1024, "target": "vulkan"}
    compile_model(folder / "checkpoint", folder / "bundle", **options)
    return release, handglass.load(Path(folder, "bundle"))


@pytest.mark.parametrize("name", ["none", "whole", "sliced"])
def test_answer(both: tuple[Release, Any], name: str) -> None:
    release, model = both
    release.check(model, name, 32)


takes_frames_together = pytest.mark.parametrize("both", ["4.5"], indirect=True)


@takes_frames_together
@pytest.mark.parametrize(
    ("grids", "times"), [([(3, 5), (3, 5)], [3, 8]), ([(1, 1), (5, 2), (2, 9)], [0, 7_199, 4_001])]
)
def test_frames_are_resampled_together(
    both: tuple[Release, Any], grids: list[tuple[int, int]], times: list[int]
) -> None:
    """The rows of several frames of a video."""
    release, model = both
    tiles = [random_tile(model.manifest.vision, *grid) for grid in grids]
    found = model.session.encode_frames([tile.arrays for tile in tiles], times)
    FLOAT32.check(found, release.tile_rows(*tiles, times=times).numpy())


@takes_frames_together
def test_video(both: tuple[Release, Any]) -> None:
    """Three frames in a group and a last one alone."""
    release, model = both
    rng = np.random.default_rng(3)
    video = [Image.fromarray(a) for a in rng.integers(0, 256, (4, 300, 400, 3), np.uint8)]
    tiles = [model.prepare(frame, 1).tiles[0] for frame in video]
    rows = [release.tile_rows(*tiles[:3], times=[0, 3, 7]), release.tile_rows(tiles[3])]
    blocks = [release.block(None, [tile.role]) for tile in (tiles[0], tiles[3])]
    ids = release.library.encode(release.prompt(QUESTION, blocks)).ids
    asked: dict[str, Any] = {"videos": [video], "packing": 3, "temp": 0, "repeat_penalty": 1}
    answer = model.chat(QUESTION, max_tokens=32, **asked)
    truth = release.logits([*ids, *answer.tokens], torch.cat(rows), len(ids))
    check_greedy(answer, len(ids), truth, 32)
