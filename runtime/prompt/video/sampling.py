"""Methods that choose the frames of a video, by the names that manifests use.

`seconds` (MiniCPM-V 2.6): frames at equal steps of whole frames; of too many, some at equal gaps.

`groups` (MiniCPM-V 4.5): frames at equal gaps; in a long video, several of them share the rows of
one tile. The resampler tells them apart by their times.

`spread` (MiniCPM-V 4.6 and 4.7): the frames at equal times; in a long video, some at equal gaps
from finer ones.

The rounding is that of the reference, on which the choice depends: Python's `round`, half to even,
and `int`, towards zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from handglass.errors import InputError, MismatchError, UsageError

if TYPE_CHECKING:
    from ...bundle.entries import VisionEntry

WHERE = "manifest.json: vision.video"
MAX_FRAMES = 2048
"""Most frames that are shown of a video."""
MIN_FPS, MAX_FPS = 1e-4, 1000.0
MAX_PACKING = 8
Rule = TypeVar("Rule", "Seconds", "Groups", "Spread")
Alone = TypeVar("Alone", "Seconds", "Spread")


@dataclass(frozen=True)
class VideoOptions:
    """What a caller may choose; None leaves it to the model."""

    frames: int | None = None
    """Most frames to show."""
    fps: float | None = None
    """Frames to show per second."""
    packing: int | None = None
    """Frames that share the rows of one tile, for a model that can."""

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of range."""
        _check_whole("frames", self.frames, MAX_FRAMES)
        _check_whole("packing", self.packing, MAX_PACKING)
        fps = self.fps
        if fps is not None and not (_is_number(fps) and MIN_FPS <= fps <= MAX_FPS):
            raise UsageError(f"fps={fps!r} must be a number from {MIN_FPS:g} to {MAX_FPS:g}")


def _check_whole(name: str, value: int | None, most: int) -> None:
    if value is not None and not (type(value) is int and 1 <= value <= most):
        raise UsageError(f"{name}={value!r} must be an integer from 1 to {most}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Sampled:
    """The frames to show, by their numbers in the video; those of a group share one tile."""

    groups: tuple[tuple[int, ...], ...]
    times: tuple[tuple[int, ...], ...] = ()
    """The time of each frame, for the resampler; empty if it takes none."""


@dataclass(frozen=True)
class Timing:
    """The frames of a video: their number, and how many per second."""

    count: int
    fps: float

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.count / self.fps


@dataclass(frozen=True)
class Seconds:
    """Parameters of the method `seconds`."""

    fps: float
    max_frames: int
    max_slices: int
    """Most slices of a frame."""


@dataclass(frozen=True)
class Groups:
    """Parameters of the method `groups`."""

    fps: float
    max_frames: int
    """Most groups of a video."""
    packing: int
    """Most frames of a group, unless the caller chooses."""
    most_packing: int
    """The largest choice."""
    tick: float
    """The unit of times, in seconds."""


@dataclass(frozen=True)
class Spread:
    """Parameters of the method `spread`."""

    fps: float
    max_frames: int
    max_slices: int
    tick: float
    """Distance of the times to choose from in a long video, in seconds."""


@dataclass(frozen=True)
class Sampling:
    """The method of a model with the options of the caller."""

    fps: float
    """Frames to show per second; taken as the rate of frames that come without times."""
    max_slices: int | None
    """Most slices of a frame, unless the caller chooses; None: a frame is never sliced."""
    choose: Callable[[Timing], Sampled]


def seconds(vision: VisionEntry, options: VideoOptions) -> Sampling:
    rule = _limited(_parse(vision, Seconds), options)

    def choose(timing: Timing) -> Sampled:
        step = max(1, round(timing.fps / rule.fps))
        shown = range(0, timing.count, step)
        return _alone(shown if len(shown) <= rule.max_frames else _evenly(shown, rule.max_frames))

    return Sampling(rule.fps, rule.max_slices, choose)


def spread(vision: VisionEntry, options: VideoOptions) -> Sampling:
    rule = _limited(_parse(vision, Spread), options)

    def choose(timing: Timing) -> Sampled:
        wanted = timing.duration * rule.fps
        if wanted <= rule.max_frames:
            times = [i / rule.fps for i in range(math.ceil(wanted))]
        else:
            ticks = int(timing.duration / rule.tick)
            chosen = np.linspace(0, max(ticks - 1, 0), rule.max_frames, dtype=int).tolist()
            times = [round(i * rule.tick, 6) for i in chosen]
        return _alone([min(int(time * timing.fps), timing.count - 1) for time in times])

    return Sampling(rule.fps, rule.max_slices, choose)


def groups(vision: VisionEntry, options: VideoOptions) -> Sampling:
    """`options.frames` limits the frames, `max_frames` of the manifest the groups."""
    rule = _parse(vision, Groups)
    rule = replace(rule, fps=options.fps or rule.fps)
    if options.packing is not None and options.packing > rule.most_packing:
        raise UsageError(f"packing={options.packing} must be 1 to {rule.most_packing}")

    def choose(timing: Timing) -> Sampled:
        wanted, packing = _packed(timing, rule)
        count = max(wanted, 1)
        shown = _evenly(range(timing.count), min(count, options.frames or count))
        times = [_tick(i / timing.fps, timing.duration, rule.tick) for i in shown]
        packing = options.packing or packing
        return Sampled(_split(shown, packing), _split(times, packing))

    return Sampling(rule.fps, None, choose)


def _packed(timing: Timing, rule: Groups) -> tuple[int, int]:
    """How many frames to show, and how many of them in a group."""
    duration, most = timing.duration, rule.max_frames
    if rule.fps * int(duration) <= most:
        # No more than the video has; one that has less than a frame in two seconds rounds to 0.
        rate = min(rule.fps, round(timing.fps) or timing.fps)
        return round(rate * min(most, duration)), 1
    packing = math.ceil(duration * rule.fps / most)
    if packing <= rule.packing:
        return round(duration * rule.fps), packing
    return round(most * rule.packing), rule.packing


def _tick(seconds: float, duration: float, tick: float) -> int:
    """The nearest multiple of `tick` below `duration`, as the reference counts it: divided by
    `tick` and truncated, which makes 43 ticks 42."""
    last = max(math.ceil(duration / tick) - 1, 0)
    below = min(int(seconds / tick), last)
    nearest = min((below, min(below + 1, last)), key=lambda n: abs(n * tick - seconds))
    return int(nearest * tick / tick)


def _evenly(frames: Sequence[int], count: int) -> list[int]:
    """The frames in the middle of `count` equal parts; of fewer frames, some twice."""
    gap = len(frames) / count
    return [frames[int(i * gap + gap / 2)] for i in range(count)]


def _alone(frames: Sequence[int]) -> Sampled:
    """Each frame in a tile of its own."""
    return Sampled(_split(frames, 1))


def _split(values: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(values[i : i + size]) for i in range(0, len(values), size))


def _limited(rule: Alone, options: VideoOptions) -> Alone:
    if options.packing is not None:
        raise UsageError(f"packing={options.packing}: this model has no groups of frames")
    fps, most = options.fps or rule.fps, options.frames or rule.max_frames
    return replace(rule, fps=fps, max_frames=most)


def _parse(vision: VisionEntry, rule: type[Rule]) -> Rule:
    """The parameters of the manifest. Raises InputError for one out of bounds."""
    assert vision.video is not None
    parsed = vision.video.parse(rule, WHERE)
    for name, (least, most) in BOUNDS.items():
        value = getattr(parsed, name, least)
        if not least <= value <= most:
            raise InputError(f"{WHERE}: {name} {value!s:.40} must be {least} to {most}")
    return parsed


BOUNDS: dict[str, tuple[float, float]] = {
    "fps": (MIN_FPS, MAX_FPS),
    "max_frames": (1, MAX_FRAMES),
    "max_slices": (1, 100),
    "packing": (1, MAX_PACKING),
    "most_packing": (1, MAX_PACKING),
    "tick": (1e-3, 60.0),
}
METHODS: dict[str, Callable[[VisionEntry, VideoOptions], Sampling]] = {
    "seconds": seconds,
    "groups": groups,
    "spread": spread,
}


def open_sampling(vision: VisionEntry, options: VideoOptions) -> Sampling:
    """The method that the manifest names, with its parameters and the options.

    Raises UsageError for an option that the model does not have, MismatchError for a method that
    this version lacks, InputError for bad parameters.
    """
    assert vision.video is not None
    method = METHODS.get(vision.video.kind)
    if method is None:
        raise MismatchError(
            f"{WHERE}: {vision.video.kind!r:.100} is unknown; known: {', '.join(METHODS)}; "
            "install the handglass version that made the bundle, or compile again"
        )
    return method(vision, options)
