"""The numpy reference of the released families against transformers, from pictures to logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from manifests import grid_vision
from PIL import Image
from released import Release, write_release
from released46 import PAD, Reference, library_tokenizer, write_checkpoint
from thinned import only

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.models import find_family
from handglass.compiler.parity.inputs import continued
from handglass.compiler.parity.reference import Weights, embed, logits, sliced
from handglass.compiler.verify_subject import reference_of
from handglass.runtime.prompt.preprocess import Preprocessor

QUESTION = "What is this picture?"
TOLERANCE = 1e-4
"""Of the largest logit."""


def opened(folder: Path) -> tuple[Checkpoint, Any]:
    weights = Checkpoint.open(folder)
    family = find_family(weights.config)
    return weights, reference_of(family, family.configure(weights.config))


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def check(actual: np.ndarray, truth: np.ndarray) -> None:
    assert actual.shape == truth.shape
    assert float(np.abs(actual - truth).max() / np.abs(truth).max()) < TOLERANCE


@pytest.mark.parametrize(
    ("version", "downsample"),
    only([("4.7", "16x")], [("4.6", "16x"), ("4.6", "4x"), ("4.7", "16x")]),
)
def test_merged(tmp_path: Path, version: str, downsample: str) -> None:
    """One picture that is sliced and one that is not, and three tokens of an answer."""
    transformers = Reference(write_checkpoint(tmp_path, downsample, version))
    weights, reference = opened(tmp_path)
    shown, tokens = [noise(700, 500), noise(120, 90)], [5, 9, 300]
    asked = transformers.ask(QUESTION, shown)
    ids = [*asked.ids, *tokens]
    x = embed(weights, reference.language, ids, reference.names)
    is_pad = np.array(ids) == library_tokenizer().token_to_id(PAD)
    x[is_pad] = np.concatenate([rows(weights, reference, picture) for picture in shown])
    places = None
    if version == "4.7":
        places = continued(transformers.positions(asked)[0], len(tokens))
    language, names = reference.language, reference.names
    actual = logits(weights, language, x, len(tokens) + 1, names, positions=places)
    check(actual, transformers.logits(asked, tokens))


def rows(weights: Weights, reference: Any, picture: Image.Image) -> np.ndarray:
    """What the language model sees of a picture."""
    encoded = []
    for tile in reference.eyes.tiles(picture):
        x = tile.strip
        for step in reference.eyes.steps.values():
            x = step.compute(weights, x, tile.rows, tile.cols)
        encoded.append(x)
    return np.concatenate(encoded)


@pytest.mark.parametrize("version", ["2.6", "4.0", "4.5"])
def test_releases(tmp_path: Path, version: str) -> None:
    release: Release = write_release(tmp_path / "checkpoint", version)
    weights, reference = opened(tmp_path / "checkpoint")
    ids = [1 + n * 7 % 300 for n in range(40)]
    x = embed(weights, reference.language, ids, reference.names)
    actual = logits(weights, reference.language, x, len(ids), reference.names)
    check(actual, release.logits(ids, torch.zeros(0, 128), 1))


@pytest.mark.parametrize("size", [(100, 333), (450, 450), (897, 448), (1920, 1080), (300, 4000)])
def test_slices(size: tuple[int, int]) -> None:
    """Two implementations of the same plan, to the last bit."""
    picture = noise(*size)
    tiles = Preprocessor(grid_vision(multiple=14, levels=0)).tiles(picture)
    expected = sliced(picture, 14, 448, 14, 9)
    assert [(t.height, t.width) for t in tiles] == [(e.rows, e.cols) for e in expected]
    assert all(np.array_equal(t.strip, e.strip) for t, e in zip(tiles, expected, strict=True))
