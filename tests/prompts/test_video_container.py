"""Video files through PyAV, against frames that PyAV decodes one after the other."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_video import refused

from handglass.errors import InputError
from handglass.runtime.prompt.video import container
from handglass.runtime.prompt.video.source import check_video, open_video

av: Any = pytest.importorskip("av")
KINDS = {"a.mp4": "mpeg4", "a.mkv": "mpeg4", "a.avi": "mpeg4", "a.mov": "mpeg4"}


def write(path: Path, count: int = 40, rate: Any = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """Frames whose brightness tells their number, and noise."""
    random = np.random.default_rng(count)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(KINDS.get(path.name, "mpeg4"), rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            array = random.integers(0, 30, (size[1], size[0], 3), np.uint8) + np.uint8(
                5 * number % 200
            )
            file.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        file.mux(stream.encode())
    return path


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("indices", [[0, 7, 14, 39], [38], list(range(40)), [0, 30, 31]], ids=len)
def test_frames(tmp_path: Path, name: str, indices: list[int]) -> None:
    path = write(tmp_path / name)
    expected = decoded(path)
    with open_video(path) as source:
        assert (source.count, source.fps) == (40, 10.0)
        found = [np.asarray(frame) for frame in source.frames(indices)]
    for index, array in zip(indices, found, strict=True):
        assert np.array_equal(array, expected[index]), index


def test_frames_far_apart_are_reached_by_key_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", 120, Fraction(30000, 1001))
    expected, indices = decoded(path), [3, 70, 119]
    monkeypatch.setattr(container, "FAR_S", 0.5)
    with open_video(path) as source:
        found = [np.asarray(frame) for frame in source.frames(indices)]
        assert source._decoded < 70  # type: ignore[attr-defined]
    for index, array in zip(indices, found, strict=True):
        assert np.array_equal(array, expected[index]), index


def test_a_camera_held_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 3)
    expected, data = decoded(path)[0], path.read_bytes()
    plain = b"\0\1\0\0" + b"\0" * 12 + b"\0\1\0\0" + b"\0" * 12 + b"\x40\0\0\0"
    quarter = b"\0" * 4 + b"\0\1\0\0" + b"\0" * 4 + b"\xff\xff\0\0" + b"\0" * 16 + b"\x40\0\0\0"
    start = data.index(b"tkhd")
    place = data.index(plain, start)
    path.write_bytes(data[:place] + quarter + data[place + len(plain) :])
    with open_video(path) as source:
        (frame,) = source.frames([0])
    assert np.array_equal(np.asarray(frame), np.rot90(expected, -1))


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 8, 1)
    data, random = path.read_bytes(), np.random.default_rng(2)
    for trial in range(40):
        broken = bytearray(data)
        if trial % 2:
            broken = broken[: int(random.integers(1, len(data)))]
        else:
            for place in random.integers(0, len(data), 20):
                broken[place] = int(random.integers(256))
        path.write_bytes(broken)
        try:
            check_video(path)
        except InputError as error:
            assert str(error).startswith(f"video {str(path)!r}: ") and "\n" not in str(error)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", 8, 1)
    with monkeypatch.context() as patch:
        patch.setattr(container, "MAX_SECONDS", 7)
        refused(path, "is 8 seconds long; must be above 0, at most 7")
    with monkeypatch.context() as patch:
        patch.setattr(container, "MAX_DECODED", 3)
        refused(path, "needs more than 3 frames to be decoded")


def test_sound_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        samples = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    refused(path, "has no pictures, only sound")
