"""MiniCPM-V 2.5 to 4.5 and the o-models compiled from their folders, against torch."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from released import Release, write_release

import handglass
from handglass.compiler.build import compile_model

QUESTION = "What is this picture?"
SIZES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "whole": [(300, 200)],
    "sliced": [(900, 500)],
    "two": [(460, 700), (200, 200)],
}
RELEASES = [
    ("2.5", "MiniCPMV"),
    ("2.6", "MiniCPMV"),
    ("2.6", "MiniCPMO"),
    ("4.0", "MiniCPMV"),
    ("4.5", "MiniCPMV"),
    ("4.5", "MiniCPMO"),
]


@pytest.fixture(scope="module", params=RELEASES, ids="-".join)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Release, Any]:
    folder = tmp_path_factory.mktemp("release")
    release = write_release(folder / "checkpoint", *request.param)
    compile_model(folder / "checkpoint", folder / "bundle", quantization="f32", context=1024)
    return release, handglass.load(folder / "bundle")


def pictures(name: str) -> list[Image.Image]:
    rng = np.random.default_rng(len(name))
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        for width, height in SIZES[name]
    ]


@pytest.mark.parametrize("name", SIZES)
def test_answer(both: tuple[Release, Any], name: str) -> None:
    """Prompt, rows of the tiles and 64 greedy tokens."""
    release, model = both
    shown = pictures(name)
    tiles = [model.prepare(picture).tiles for picture in shown]
    content = [*shown, QUESTION] if shown else QUESTION
    answer = model.chat(
        [{"role": "user", "content": content}], temp=0, repeat_penalty=1, max_tokens=64
    )
    blocks = [release.block(n, [t.role for t in ts]) for n, ts in enumerate(tiles)]
    text = release.prompt(QUESTION, blocks)
    ids = release.library.encode(text).ids
    rows = torch.cat([torch.zeros(0, 128), *(release.tile_rows(t) for ts in tiles for t in ts)])
    tokens = list(answer.tokens)
    truth = release.logits([*ids, *tokens], rows, len(ids))
    assert len(tokens) == 64 or answer.finish_reason == "stop"
    assert tokens == [int(row.argmax()) for row in truth[: len(tokens)]]
    used = answer.timings.prefill_tokens + answer.timings.reused_tokens
    assert used == len(ids)
