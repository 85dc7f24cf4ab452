"""Rows of the demo dual encoder, to compare two devices by their cosines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scenes import draw, every_shape

from handglass.runtime.search.encoder import Encoder

CHECKPOINT = Path(__file__).parents[2] / "examples" / "search-checkpoint"
SCENES = dict(list(every_shape().items())[::16])
LEAST = {"f32": 1 - 1e-5, "f16": 1 - 1e-4, "w8a8": 1 - 2e-3}
"""Cosine of the rows of two devices; in w8a8, either rounds activations of its own."""


def rows_of(bundle: Path, device: str | None = None, count: int = len(SCENES)) -> np.ndarray:
    """The rows (2 * count, width) of some pictures, then of their texts."""
    encoder, scenes = Encoder.load(bundle, device=device), dict(list(SCENES.items())[:count])
    pictures = [encoder.picture(draw(scene, 224)) for scene in scenes.values()]
    return np.stack([*pictures, *(encoder.text(f"a {name}") for name in scenes)])


def check_rows(found: np.ndarray, truth: np.ndarray, scheme: str) -> None:
    """Rows have length 1, so that the sum of products is their cosine."""
    cosines = (found * truth).sum(1)
    assert cosines.min() > LEAST[scheme], cosines
