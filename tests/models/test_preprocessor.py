"""preprocessor_config.json with values that are not compiled in is refused, not ignored."""

import json
from pathlib import Path
from typing import Any

import pytest

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.preprocessor import preprocessed
from handglass.errors import InputError
from handglass.runtime.bundle.entries import MethodEntry, VisionEntry

HALF = (0.5, 0.5, 0.5)
GRID = {"resolution": 448, "multiple": 14, "max_slices": 9}
VISION = VisionEntry(
    448, 14, HALF, HALF, MethodEntry("grid", GRID), MethodEntry("floor", {"side": 70}), 64
)
RELEASED = {"max_slice_nums": 9, "scale_resolution": 448, "patch_size": 14, "slice_mode": True}


def check(folder: Path, given: Any, vision: VisionEntry | None = VISION) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    preprocessed(Checkpoint(folder, {}, {}), vision)


def test_released_values_and_no_file(tmp_path: Path) -> None:
    preprocessed(Checkpoint(tmp_path, {}, {}), VISION)
    check(tmp_path, RELEASED | {"norm_mean": list(HALF), "image_std": list(HALF)})
    check(tmp_path, {"max_slice_nums": 4}, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_slice_nums", 4),
        ("scale_resolution", 336),
        ("patch_size", 16),
        ("slice_mode", False),
        ("image_mean", [0.48, 0.46, 0.41]),
        ("norm_std", [1, 1, 1]),
        ("scale_resolution", None),
    ],
)
def test_other_values_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=key):
        check(tmp_path, RELEASED | {key: value})


def test_not_an_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="preprocessor_config"):
        check(tmp_path, [1])
