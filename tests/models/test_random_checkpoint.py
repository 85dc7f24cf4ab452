"""Random checkpoints: the seed's full shape, and activations with a magnitude near 1."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_minicpmv as reference
from odd_models import GROUPED, ODD_MODELS, write_checkpoint
from PIL import Image
from random_checkpoint import narrow, tensors

from handglass.compiler.models.seed import SEED


def test_seed_has_its_published_number_of_parameters() -> None:
    assert sum(math.prod(draw.shape) for draw in tensors(SEED)) == 1_791_718_128


def test_same_seed_same_weights_in_every_type(tmp_path: Path) -> None:
    exact = reference.load(write_checkpoint(tmp_path / "f32", GROUPED, "float32"))[1]
    for dtype, tolerance in (("float16", 2e-3), ("bfloat16", 1e-2)):
        rounded = reference.load(write_checkpoint(tmp_path / dtype, GROUPED, dtype))[1]
        for name, weight in exact.items():
            torch.testing.assert_close(rounded[name], weight, rtol=tolerance, atol=1e-6)


def test_rounding_to_bfloat16_is_to_nearest_even() -> None:
    values = np.random.default_rng(0).standard_normal(1000, np.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(narrow(values, "bfloat16"), expected)


@pytest.mark.parametrize("config", ODD_MODELS.values(), ids=ODD_MODELS)
def test_activations_stay_near_one(tmp_path: Path, config: dict[str, Any]) -> None:
    config, weights = reference.load(write_checkpoint(tmp_path, config, "float32"))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    embeddings = reference.encode_image(weights, config, picture)
    ids = reference.prompt_ids(tmp_path, config, "What is this picture?", 1)
    llm = reference.part(weights, "llm.")
    x = reference.splice(reference.embed(llm, config, ids), ids, [embeddings])
    for stage in (embeddings, x, reference.logits(llm, config, x)):
        assert 0.2 < stage.std() < 5
