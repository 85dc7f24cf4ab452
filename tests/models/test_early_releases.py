"""MiniCPM-V 1.0 and 2.0 compiled from their folders, against plain torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from released_early import Early, write_early
from shared_releases import EARLY, loaded

from handglass.compiler.build import compile_model
from handglass.errors import InputError
from handglass.runtime.prompt.preprocess import Prepared

QUESTION = "What is this picture?"
TOLERANCE = 1e-4
"""Of the largest value."""
SIZES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "whole": [(300, 200)],
    "sliced": [(900, 500)],
    "tall": [(100, 1600)],
    "two": [(460, 700), (200, 200)],
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.large) for name in EARLY],
)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Early, Any]:
    return loaded(tmp_path_factory, request.param)


def pictures(name: str) -> list[Image.Image]:
    rng = np.random.default_rng(len(name))
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in SIZES[name]
    ]


def difference(actual: np.ndarray, truth: np.ndarray) -> float:
    assert actual.shape == truth.shape
    return float(np.abs(actual - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("name", SIZES)
def test_answer(both: tuple[Early, Any], name: str) -> None:
    """Prompt, rows of the tiles, logits and 64 greedy tokens."""
    release, model = both
    shown = [model.prepare(picture) for picture in pictures(name)]
    rows = [release.tile_rows(tile) for one in shown for tile in one.tiles]
    for tile, truth in zip((t for one in shown for t in one.tiles), rows, strict=True):
        assert difference(model.session.encode_image(*tile.arrays), truth.numpy()) < TOLERANCE
    content = [*shown, QUESTION] if shown else QUESTION
    answer = model.chat(
        [{"role": "user", "content": content}], temp=0, repeat_penalty=1, max_tokens=64
    )
    ids = release.prompt(QUESTION, [[tile.role for tile in one.tiles] for one in shown])
    tokens = list(answer.tokens)
    truth = release.logits([*ids, *tokens], rows, len(ids))
    assert len(tokens) == 64 or answer.finish_reason == "stop"
    assert tokens == [int(row.argmax()) for row in truth[: len(tokens)]]
    used = answer.timings.prefill_tokens + answer.timings.reused_tokens
    assert used == len(ids)
    assert difference(first_logits(model, ids, rows), truth[0]) < TOLERANCE


def first_logits(model: Any, ids: list[int], rows: list[torch.Tensor]) -> np.ndarray:
    """After the prompt `ids`, whose unknown tokens are places of the rows."""
    x = model.session.embed(ids)
    if rows:
        x[np.array(ids) == 0] = torch.cat(rows).numpy()
    logits: np.ndarray = model.session.prefill(x, 0)
    return logits


def test_pictures_are_told_from_text(both: tuple[Early, Any]) -> None:
    """With `images` and with content parts, a newline follows each picture; a mark has none."""
    release, model = both
    (picture,) = pictures("whole")
    counts = [
        model.chat(*arguments, max_tokens=1, temp=0).timings
        for arguments in (
            (QUESTION, [picture]),
            ([{"role": "user", "content": [picture, QUESTION]}],),
            (f"(<image>./</image>){QUESTION}", [picture]),
        )
    ]
    length = len(release.prompt(QUESTION, [["picture"]]))
    used = [count.prefill_tokens + count.reused_tokens for count in counts]
    assert used == [length, length, length - 1]


def test_a_square_shows_all_of_1_0(both: tuple[Early, Any]) -> None:
    release, model = both
    (picture,) = pictures("sliced")
    prepared: Prepared = model.prepare(picture)
    sizes = [(tile.height, tile.width) for tile in prepared.tiles]
    assert (sizes == [(32, 32)]) == (release.version == "1.0")


def test_names_of_slices_are_needed(tmp_path: Path) -> None:
    release = write_early(tmp_path / "checkpoint", "2.0")
    (release.folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="no token '<slice>'"):
        compile_model(release.folder, tmp_path / "bundle")
