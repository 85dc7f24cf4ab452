"""Video files through PyAV, against frames that PyAV decodes one after the other."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
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
KINDS = ("a.mp4", "a.mkv", "a.avi", "a.mov")


def write(
    path: Path,
    count: int = 40,
    rate: Any = 10,
    milliseconds: Sequence[int] = (),
    codec: str = "mpeg4",
    form: str = "yuv420p",
) -> Path:
    """Frames whose brightness tells their number, and noise; `milliseconds`: when each begins."""
    size = 64, 48
    random = np.random.default_rng(count)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = *size, form
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            array = random.integers(0, 30, (size[1], size[0], 3), np.uint8) + np.uint8(
                5 * number % 200
            )
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
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


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    """Another display matrix of the first track: (x, y) is shown at (a x + c y, b x + d y)."""
    data = path.read_bytes()
    numbers = [[round(65536 * x) for x in row] for row in ((1, 0, 0, 1), (a, b, c, d))]
    plain, wanted = (struct.pack(">9i", *n[:2], 0, *n[2:], 0, 0, 0, 1 << 30) for n in numbers)
    place = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:place] + wanted + data[place + len(plain) :])


def shown(frame: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """The frame by the definition of its display matrix."""
    height, width = frame.shape[:2]
    y, x = np.mgrid[:height, :width]
    column, row = a * x + c * y, b * x + d * y
    column, row = column - column.min(), row - row.min()
    result = np.zeros((row.max() + 1, column.max() + 1, 3), frame.dtype)
    result[row, column] = frame
    return result


PLAIN, QUARTER = [(1, 0, 0, 1), (-1, 0, 0, -1)], [(0, 1, -1, 0), (0, -1, 1, 0)]
MIRRORED = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("matrix", [*PLAIN, *QUARTER, *MIRRORED])
def test_turned_and_mirrored_frames(
    tmp_path: Path, name: str, matrix: tuple[int, int, int, int]
) -> None:
    path = write(tmp_path / name, 3)
    expected = shown(decoded(path)[0], *matrix)
    with_matrix(path, *matrix)
    with open_video(path) as source:
        (frame,) = source.frames([0])
    assert np.array_equal(np.asarray(frame), expected)


def test_a_camera_held_upright(tmp_path: Path) -> None:
    """As players show it, checked without the definition: a quarter clockwise."""
    path = write(tmp_path / "a.mp4", 3)
    expected = np.rot90(decoded(path)[0], -1)
    with_matrix(path, 0, 1, -1, 0)
    with open_video(path) as source:
        (frame,) = source.frames([0])
    assert np.array_equal(np.asarray(frame), expected)


@pytest.mark.parametrize("matrix", [(0.8, 0.6, -0.6, 0.8), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_other_matrices_are_left_out(tmp_path: Path, matrix: tuple[float, ...]) -> None:
    path = write(tmp_path / "a.mp4", 3)
    expected = decoded(path)[0]
    with_matrix(path, *matrix)
    with open_video(path) as source:
        (frame,) = source.frames([0])
    assert np.array_equal(np.asarray(frame), expected)


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


def test_unequal_times(tmp_path: Path) -> None:
    """The frame that is shown at the time of each index, which need not be the next one."""
    shown = [sum((100, 1100, 300, 700)[i % 4] for i in range(n)) for n in range(40)]  # ms
    path = write(tmp_path / "a.mkv", milliseconds=shown)
    expected = decoded(path)
    with open_video(path) as source:
        fps, indices = source.fps or 0, range(0, source.count, 3)
        found = [np.asarray(frame) for frame in source.frames(indices)]
    for index, array in zip(indices, found, strict=True):
        numbers = [round(ms / 1000 * fps) for ms in shown]
        number = max(n for n in range(40) if numbers[n] <= index)
        same = [n for n in range(number + 1) if numbers[n] == numbers[number]]
        assert any(np.array_equal(array, expected[n]) for n in same), index


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    from av.stream import Disposition

    for name in ("a.m4a", "a.mp4"):
        with av.open(str(tmp_path / name), "w", format="mp4") as file:
            cover = file.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            moving = file.add_stream("mpeg4", rate=10) if name == "a.mp4" else None
            if moving:
                moving.width, moving.height, moving.pix_fmt = 32, 16, "yuv420p"
            for stream in filter(None, (cover, moving)):
                array = np.zeros((stream.height, stream.width, 3), np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
                file.mux(stream.encode())
    refused(tmp_path / "a.m4a", "has no pictures, only sound")
    with open_video(tmp_path / "a.mp4") as source:
        (frame,) = source.frames([0])
        assert frame.size == (32, 16)


def field(data: bytes, box: bytes, place: int, value: int) -> bytes:
    """Another number of 32 bits in the first box of this name."""
    start = data.index(box) + 4 + place
    return data[:start] + struct.pack(">I", value) + data[start + 4 :]


@pytest.mark.parametrize(
    ("box", "place", "value", "named"),
    [
        (b"stts", 12, 0x7FFFFFFF, r"has .*e-06 frames per second; must be 1\.2e-05 to 1000"),
        (b"mdhd", 16, 0, ""),
        (b"stsz", 8, 0xFFFFFFF0, "is damaged or cut short: Invalid data"),
    ],
)
def test_wrong_numbers(tmp_path: Path, box: bytes, place: int, value: int, named: str) -> None:
    """Of the frame's time, the track's length (0: unknown), and the number of frames."""
    path = write(tmp_path / "a.mp4", 20)
    expected = decoded(path)
    path.write_bytes(field(path.read_bytes(), box, place, value))
    if named:
        refused(path, named)
        return
    with open_video(path) as source:
        assert (source.count, source.fps) == (20, 10.0)
        (frame,) = source.frames([19])
    assert np.array_equal(np.asarray(frame), expected[19])


def test_an_unknown_codec(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", 3, codec="png", form="rgb24")
    path.write_bytes(path.read_bytes().replace(b"png ", b"zzz1"))
    refused(path, "a format of pictures that this build of FFmpeg cannot decode")


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[:-200])  # the list of frames is at the end
    refused(path, "is damaged or cut short: Invalid data")


def test_large_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    """Opening a file decodes a frame of each stream: in a file of 2 kB, one of 768 MB."""
    path = write(tmp_path / "a.mov", 1, codec="png", form="rgb24")
    data = bytearray(path.read_bytes())
    start = data.index(b"IHDR")
    data[start + 4 : start + 12] = struct.pack(">II", 16_000, 16_000)
    data[start + 17 : start + 21] = struct.pack(">I", zlib.crc32(data[start : start + 17]))
    path.write_bytes(data)
    script = (
        "import sys; from handglass.runtime.prompt.video.source import check_video\n"
        "from handglass.runtime.system.memory import peak_bytes\n"
        "try: check_video(sys.argv[1])\nexcept Exception as error: print(error)\n"
        "print(peak_bytes())"
    )
    command = [sys.executable, "-c", script, str(path)]
    error, peak = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert "frames without a size, or of more than 16000000 pixels" in error
    assert int(peak) < 300e6
