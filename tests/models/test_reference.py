"""The numpy reference against torch, stage by stage, on odd sizes and odd grids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_minicpmv as expected
from odd_models import ODD_MODELS, write_checkpoint
from PIL import Image

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.parity import reference


class Both:
    """One random checkpoint, opened with `Checkpoint` and with torch."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        write_checkpoint(folder, config, "float32")
        self.folder = folder
        self.checkpoint = Checkpoint.open(folder)
        self.model = ModelConfig.from_dict(config)
        self.config, self.weights = expected.load(folder)
        self.rng = np.random.default_rng(1)

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32)


@pytest.fixture(scope="module", params=ODD_MODELS.values(), ids=list(ODD_MODELS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("checkpoint"), request.param)


def relative(actual: np.ndarray, truth: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert actual.dtype == np.float32
    assert actual.shape == tuple(truth.shape)
    return float(np.abs(actual - truth.numpy()).max() / truth.abs().max())


@pytest.mark.parametrize("size", [(1, 1), (90, 61), (2000, 3)])
def test_pixels(both: Both, size: tuple[int, int]) -> None:
    values = both.rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = Image.fromarray(values)
    strip = expected.pixels(picture, both.config)[0]
    vision = both.model.vision
    assert np.array_equal(
        reference.square(picture, both.model.image_size, vision.patch_size).strip, strip
    )


@pytest.mark.parametrize("grid", [(5, 5), (4, 4), (1, 7), (25, 2)])
def test_vision(both: Both, grid: tuple[int, int]) -> None:
    vision = both.model.vision
    n, p = grid[0] * grid[1], vision.patch_size
    strip = both.normal(3, p, p * n)
    ids = expected.position_ids(*grid, vision.positions_per_side)
    weights = expected.part(both.weights, "vpm.")
    truth = expected.encode_vision(
        weights, both.config["vision_config"], torch.from_numpy(strip), ids
    )
    assert relative(reference.encode_vision(both.checkpoint, vision, strip, *grid), truth) < 1e-5


@pytest.mark.parametrize("grid", [(5, 5), (1, 7), (80, 3)])
def test_resampler(both: Both, grid: tuple[int, int]) -> None:
    resampler = both.model.resampler
    features = both.normal(grid[0] * grid[1], resampler.vision_hidden_size)
    weights = expected.part(both.weights, "resampler.")
    truth = expected.resample(
        weights, torch.from_numpy(features), *grid, resampler.num_attention_heads
    )
    assert relative(reference.resample(both.checkpoint, resampler, features, *grid), truth) < 1e-5


@pytest.mark.parametrize(("s", "last"), [(1, 1), (37, 1), (37, 5), (37, 37)])
def test_logits(both: Both, s: int, last: int) -> None:
    language = both.model.language
    x = both.normal(s, language.hidden_size)
    weights = expected.part(both.weights, "llm.")
    truth = expected.logits(weights, both.config, torch.from_numpy(x))[-last:]
    assert relative(reference.logits(both.checkpoint, language, x, last), truth) < 1e-5


def test_embed(both: Both) -> None:
    ids = [5, 1, 5, 0, both.model.language.vocab_size - 1]
    truth = expected.embed(expected.part(both.weights, "llm."), both.config, ids)
    assert relative(reference.embed(both.checkpoint, both.model.language, ids), truth) < 1e-6


def test_every_tensor_is_used(both: Both) -> None:
    checkpoint = Checkpoint.open(both.folder)
    model, language = both.model, both.model.language
    strip = both.normal(3, model.vision.patch_size, model.vision.patch_size)
    features = reference.encode_vision(checkpoint, model.vision, strip, 1, 1)
    reference.resample(checkpoint, model.resampler, features, 1, 1)
    reference.logits(checkpoint, language, reference.embed(checkpoint, language, [1]), 1)
    checkpoint.finish()
