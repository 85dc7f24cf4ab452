"""From a video to the tiles of its frames: decoded one after the other, and kept as tiles only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handglass.errors import InputError, UsageError

from ..pictures.read import reading
from ..preprocess import Tile, TilesOf
from .groups import FrameGroup
from .sampling import Sampled, Sampling, Timing, VideoOptions, open_sampling
from .source import Video, open_video, video_name

if TYPE_CHECKING:
    from ...bundle.entries import VisionEntry
    from ...bundle.manifest import Manifest

MAX_PIXELS = 1 << 28
"""Most pixels of all tiles of a video, 3 bytes each."""
Frames = tuple[Sequence[Tile | FrameGroup], ...]
"""The tiles of each frame, or group of frames, in prompt order."""


@dataclass(frozen=True, eq=False)
class PreparedVideo:
    """A video as the tiles of one model, to be shown in several turns without further work."""

    frames: Frames
    vision: VisionEntry


class VideoReader:
    """Reads videos for a bundle with this manifest; `tiles_of` cuts one frame."""

    def __init__(self, manifest: Manifest, tiles_of: TilesOf) -> None:
        self._model = manifest.model
        self._vision = manifest.vision
        self._tiles_of = tiles_of

    def check(self, options: VideoOptions) -> None:
        """Raise UsageError if the model takes no videos, or does not have these options."""
        self._sampling(options)

    def frames(self, video: Video, options: VideoOptions, max_slices: int | None) -> Frames:
        """The frames that the model shows. A video that was prepared keeps those that it has.

        Raises InputError for an invalid video, UsageError as `check` does.
        """
        if isinstance(video, PreparedVideo):
            if video.vision != self._vision:
                raise InputError("the video was prepared for another model; prepare it again")
            return video.frames
        sampling = self._sampling(options)
        slices = 1 if sampling.max_slices is None else (max_slices or sampling.max_slices)
        with reading(video_name(video)), open_video(video) as source:
            sampled = sampling.choose(Timing(source.count, source.fps or sampling.fps))
            wanted = sorted({index for group in sampled.groups for index in group})
            tiles, pixels = dict[int, list[Tile]](), 0
            for index, frame in zip(wanted, source.frames(wanted), strict=True):
                tiles[index] = self._tiles_of(frame, slices)
                pixels += sum(tile.pixels[..., 0].size for tile in tiles[index])
                if pixels > MAX_PIXELS:
                    raise InputError(
                        f"more than {MAX_PIXELS} pixels would be shown; lower --frames (now "
                        f"{len(wanted)}) or --max-slices (now {slices})"
                    )
        return tuple(_grouped(sampled, tiles))

    def _sampling(self, options: VideoOptions) -> Sampling:
        if self._vision is None or self._vision.video is None:
            raise UsageError(f"this model ({self._model.name}) takes no videos; {self._advice}")
        return open_sampling(self._vision, options)

    @property
    def _advice(self) -> str:
        return "it is text-only" if self._vision is None else "show single frames with --image"


def _grouped(sampled: Sampled, tiles: dict[int, list[Tile]]) -> list[list[Tile | FrameGroup]]:
    if not sampled.times:
        return [list(tiles[index]) for (index,) in sampled.groups]
    pairs = zip(sampled.groups, sampled.times, strict=True)
    return [[_group([tiles[i][0] for i in group], times)] for group, times in pairs]


def _group(frames: Sequence[Tile], times: tuple[int, ...]) -> Tile | FrameGroup:
    """One frame alone is a tile like a picture: its time would change nothing."""
    return FrameGroup(tuple(frames), times) if len(frames) > 1 else frames[0]
