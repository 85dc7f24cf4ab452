"""The number of tiles by which tuning weighs a vision tower."""

from dataclasses import replace

import pytest
from manifests import square

from handglass.compiler.lowering.workload import parts_of
from handglass.runtime.bundle.entries import TILED, MethodEntry, VisionEntry

ENTRY = square(56, 14, 5, 70)


def with_grid(slices: int) -> VisionEntry:
    parameters = {"resolution": 56, "max_slices": slices, "multiple": 14}
    return replace(ENTRY, slicing=MethodEntry("grid", parameters))


@pytest.mark.parametrize(
    ("entry", "tiles"), [(ENTRY, 1), (with_grid(1), 1), (with_grid(2), 3), (with_grid(9), 10)]
)
def test_a_photo_has_all_slices_and_an_overview(entry: VisionEntry, tiles: int) -> None:
    calls = {part.function: part.calls for part in parts_of(entry, 128)}
    assert calls == {"encode_image": tiles, "prefill": 1, "decode": 64}


def test_a_picture_that_is_seen_is_encoded_with_all_tiles() -> None:
    entry = replace(ENTRY, slicing=MethodEntry(TILED, {"max_tiles": 4}))
    parts = {part.function: part.lengths for part in parts_of(entry, 128)}
    assert [*parts] == ["encode_image", "show_pictures", "prefill_seeing", "decode_seeing"]
    assert parts["encode_image"] == {"n": 4 * 24, "strip": 4 * 24 * 14, "r": 4 * 17}
    assert parts["decode_seeing"]["seen"] == 4 * 17


def test_a_text_model_encodes_nothing() -> None:
    assert [part.function for part in parts_of(None, 128)] == ["prefill", "decode"]
