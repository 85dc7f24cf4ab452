"""Which frames of a video are shown: against the rules of the reference, written out here."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from manifests import grid_vision
from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor
from transformers.video_utils import VideoMetadata

from handglass.compiler.models.minicpmv46 import VIDEO
from handglass.compiler.models.release import RELEASES
from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.bundle.entries import MethodEntry, VisionEntry
from handglass.runtime.prompt.video.sampling import (
    Sampled,
    Sampling,
    Timing,
    VideoOptions,
    open_sampling,
)

SECONDS_OF: dict[str, float] = {"fps": 1.0, "max_frames": 64, "max_slices": 2}
SECONDS = MethodEntry("seconds", SECONDS_OF)
PACKED: dict[str, float] = {
    "fps": 3.0,
    "max_frames": 180,
    "packing": 3,
    "most_packing": 6,
    "tick": 0.1,
}
GROUPS = MethodEntry("groups", PACKED)
NONE = VideoOptions()
RATES = [0.3, 1.0, 10.0, 23.976, 29.97, 30.0, 60.0]
COUNTS = [1, 2, 7, 59, 61, 300, 1801, 5395, 5402, 16_190, 40_001]


def vision(entry: MethodEntry) -> VisionEntry:
    return replace(grid_vision(), video=entry)


def opened(entry: MethodEntry, options: VideoOptions = NONE) -> Sampling:
    return open_sampling(vision(entry), options)


def uniform(frames: list[int], n: int) -> list[int]:
    gap = len(frames) / n
    return [frames[int(i * gap + gap / 2)] for i in range(n)]


def test_the_defaults_are_those_of_the_releases() -> None:
    found = {(r.name, r.video.kind) for r in RELEASES if r.video is not None}
    assert found == {("MiniCPM-V 2.6", "seconds"), ("MiniCPM-V 4.5", "groups")}
    assert all(r.video in (None, SECONDS, GROUPS) for r in RELEASES)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", COUNTS)
def test_seconds(count: int, rate: float) -> None:
    frames = list(range(0, count, max(round(rate), 1)))
    expected = frames if len(frames) <= 64 else uniform(frames, 64)
    sampled = opened(SECONDS).choose(Timing(count, rate))
    assert sampled == Sampled(tuple((i,) for i in expected))


def packed(count: int, rate: float, fps: float, force: int = 0) -> tuple[list[Any], list[Any]]:
    """Frames and temporal ids in groups; the ids by a search of all multiples."""
    duration = count / rate
    if fps * int(duration) <= 180:
        packing, frames = 1, round(min(fps, round(rate) or rate) * min(180, duration))
    else:
        packing = math.ceil(duration * fps / 180)
        frames = round(duration * fps) if packing <= 3 else (180 * 3)
        packing = min(packing, 3)
    indices = uniform(list(range(count)), max(frames, 1))
    scale = np.arange(0, duration, 0.1)
    nearest = [scale[np.abs(scale - i / rate).argmin()] for i in indices]
    ids = [int(value / 0.1) for value in nearest]
    size = force or packing
    steps = range(0, len(indices), size)
    return [tuple(indices[i : i + size]) for i in steps], [tuple(ids[i : i + size]) for i in steps]


@pytest.mark.parametrize(("fps", "force"), [(3.0, 0), (5.0, 0), (1.0, 0), (3.0, 6)])
@pytest.mark.parametrize("rate", RATES)
def test_groups(rate: float, fps: float, force: int) -> None:
    sampling = opened(GROUPS, VideoOptions(fps=fps, packing=force or None))
    for count in COUNTS if rate > 1 else COUNTS[:6]:
        sampled = sampling.choose(Timing(count, rate))
        indices, ids = packed(count, rate, fps, force)
        assert (list(sampled.groups), list(sampled.times)) == (indices, ids), (count, rate)


def test_packing_grows_with_the_length() -> None:
    sizes = {}
    for seconds in (10, 60, 61, 120, 121, 180, 600):
        sampled = opened(GROUPS).choose(Timing(30 * seconds, 30.0))
        sizes[seconds] = (len(sampled.groups[0]), sum(map(len, sampled.groups)))
    assert sizes == {
        10: (1, 30),
        60: (1, 180),
        61: (2, 183),
        120: (2, 360),
        121: (3, 363),
        180: (3, 540),
        600: (3, 540),
    }
    assert len(opened(GROUPS).choose(Timing(30 * 600, 30.0)).groups) == 180


def test_times_lose_a_tick_as_in_the_reference() -> None:
    """43 tenths divided by a tenth are 42.99..., which is truncated."""
    times = opened(GROUPS, VideoOptions(fps=10.0)).choose(Timing(100, 10.0)).times
    ticks = [t for group in times for t in group]
    assert len(ticks) == 100
    assert [i for i, t in enumerate(ticks) if t != i] == [43, 81, 86, 91]


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate >= 1])
def test_spread(rate: float) -> None:
    processor = MiniCPMV4_6VideoProcessor()
    for count in COUNTS:
        duration = count / rate
        data = VideoMetadata(total_num_frames=count, fps=rate, duration=duration)
        expected = processor.sample_frames(data)
        sampled = opened(VIDEO).choose(Timing(count, rate))
        assert [i for (i,) in sampled.groups] == expected, (count, rate)


@pytest.mark.parametrize("entry", [SECONDS, GROUPS, VIDEO], ids=lambda e: e.kind)
@pytest.mark.parametrize("most", [1, 5, 40])
def test_frames_limits_what_is_shown(entry: MethodEntry, most: int) -> None:
    for count in COUNTS:
        sampled = opened(entry, VideoOptions(frames=most)).choose(Timing(count, 30.0))
        shown = [i for group in sampled.groups for i in group]
        assert 1 <= len(shown) <= most
        assert shown == sorted(shown) and shown[0] >= 0 and shown[-1] < count


@pytest.mark.parametrize("entry", [SECONDS, VIDEO], ids=lambda e: e.kind)
def test_fps_shows_more(entry: MethodEntry) -> None:
    slow, fast = (
        opened(entry, VideoOptions(fps=fps)).choose(Timing(300, 30.0)).groups for fps in (1, 5)
    )
    assert (len(slow), len(fast)) == (10, 50)
    assert fast[:3] == ((0,), (6,), (12,))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"frames": 0}, "frames=0 must be"),
        ({"frames": 4096}, "frames=4096 must be"),
        ({"frames": True}, "frames=True"),
        ({"fps": 0}, "fps=0 must be"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"fps": "1"}, "fps='1'"),
        ({"packing": 9}, "packing=9 must be an integer"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        VideoOptions(**options)


def test_options_that_a_model_lacks() -> None:
    for entry in (SECONDS, VIDEO):
        with pytest.raises(UsageError, match="packing=2: this model has no groups"):
            opened(entry, VideoOptions(packing=2))
    with pytest.raises(UsageError, match="packing=7 must be 1 to 6"):
        opened(GROUPS, VideoOptions(packing=7))


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (MethodEntry("seconds", SECONDS_OF | {"fps": 0.0}), "fps 0.0 must be"),
        (MethodEntry("seconds", SECONDS_OF | {"fps": float("inf")}), "fps inf"),
        (MethodEntry("seconds", SECONDS_OF | {"max_frames": 0}), "max_frames 0"),
        (MethodEntry("groups", PACKED | {"max_frames": 1 << 30}), "max_frames 1073741824"),
        (MethodEntry("groups", PACKED | {"packing": -1}), "packing -1"),
        (MethodEntry("groups", PACKED | {"tick": 1e-9}), "tick 1e-09"),
        (MethodEntry("spread", {"fps": 1.0}), "is missing"),
    ],
)
def test_parameters_out_of_range(entry: MethodEntry, named: str) -> None:
    with pytest.raises(InputError, match=named):
        opened(entry)


def test_unknown_method() -> None:
    with pytest.raises(MismatchError, match="'dreams' is unknown; known: seconds, groups, spread"):
        opened(MethodEntry("dreams", {}))
