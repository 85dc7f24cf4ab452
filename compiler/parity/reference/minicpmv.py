"""The reference of SigLIP, the resampler and a decoder."""

from __future__ import annotations

from handglass.runtime.prompt.preprocess import Picture

from ...models.release import ModelConfig
from .family import LANGUAGE, VISION, Eyes, Frames, Reference, Step
from .pixels import Pixels, square
from .resampler import resample, resample_frames
from .slices import sliced
from .vision import encode_vision


def reference(config: ModelConfig) -> Reference:
    vision = Step(VISION, lambda w, x, *grid: encode_vision(w, config.vision, x, *grid))
    resampler = Step(LANGUAGE, lambda w, x, *grid: resample(w, config.resampler, x, *grid))
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
    return sliced(picture, patch, size, patch, config.max_slices)
