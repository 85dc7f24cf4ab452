"""The reference of SigLIP, the resampler and a decoder."""

from __future__ import annotations

import numpy as np

from handglass.runtime.prompt.preprocess import Picture

from ...models.config import VisionConfig
from ...models.model_config import ModelConfig
from .arithmetic import Watch, Weights, unwatched
from .family import LANGUAGE, VISION, Eyes, Frames, Reference, Step
from .pixels import Pixels, padded, square
from .resampler import resample, resample_frames
from .slices import sliced
from .vision import encode_vision


def reference(config: ModelConfig) -> Reference:
    see = in_padded_row if config.resampler.has_padding else encode_vision
    vision = Step(VISION, lambda w, x, *grid, **seen: see(w, config.vision, x, *grid, **seen))
    resampler = Step(LANGUAGE, lambda w, x, *grid, **_: resample(w, config.resampler, x, *grid))
    steps = {"vision": vision, "resampler": resampler}
    frames: Frames = lambda w, x, *videos: resample_frames(w, config.resampler, x, *videos)  # noqa: E731
    eyes = Eyes(
        lambda picture: tiles(config, picture),
        steps,
        frames=frames if config.resampler.has_times else None,
    )
    return Reference(config.language, eyes=eyes)


def tiles(config: ModelConfig, picture: Picture) -> list[Pixels]:
    """The seed shows a square, the releases an overview and slices."""
    size, patch = config.image_size, config.vision.patch_size
    if not config.release.slices:
        return [square(picture, size, patch)]
    found = sliced(picture, patch, size, patch, config.max_slices)
    return padded(found) if config.resampler.has_padding else found


def in_padded_row(
    weights: Weights,
    config: VisionConfig,
    strip: np.ndarray,
    rows: int,
    cols: int,
    watch: Watch = unwatched,
) -> np.ndarray:
    """The tower on a tile with padding, whose patches it takes for one row."""
    patches = strip.shape[2] // config.patch_size
    return encode_vision(weights, config, strip, 1, patches, watch)
