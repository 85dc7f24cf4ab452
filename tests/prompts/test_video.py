"""Videos from files, folders and lists: which frames arrive, bit for bit, and what is refused."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import chatml_prompt, grid_vision
from PIL import Image

from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.entries import (
    MethodEntry,
    ModelEntry,
    StateEntry,
    TargetEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.prompt.video import animation, container, reader, timing
from handglass.runtime.prompt.video.frames import natural_key
from handglass.runtime.prompt.video.groups import FrameGroup
from handglass.runtime.prompt.video.reader import VideoReader
from handglass.runtime.prompt.video.sampling import VideoOptions
from handglass.runtime.prompt.video.source import check_video, open_video

SIZE = (46, 34)
SECONDS = MethodEntry("seconds", {"fps": 1.0, "max_frames": 64, "max_slices": 2})
GROUPS = MethodEntry(
    "groups", {"fps": 3.0, "max_frames": 4, "packing": 3, "most_packing": 6, "tick": 0.1}
)


def drawn(count: int, size: tuple[int, int] = SIZE, colours: int = 200) -> list[Image.Image]:
    """Frames of few colours, so that a GIF keeps them exactly; each differs in a part only."""
    random = np.random.default_rng(count)
    table = random.integers(0, 256, (colours, 3), np.uint8)
    pixels = random.integers(0, colours, (size[1], size[0]))
    frames = []
    for number in range(count):
        pixels[number % 5 : 20, 3:30] = random.integers(0, colours, (20 - number % 5, 27))
        image = Image.fromarray(pixels.astype(np.uint8), "P")
        image.putpalette(table.tobytes())
        frames.append(image)
    return frames


def saved(path: Path, frames: list[Image.Image], milliseconds: Any = 100, **options: Any) -> Path:
    shown = frames if path.suffix == ".gif" else [frame.convert("RGB") for frame in frames]
    given = {"save_all": True, "append_images": shown[1:], "duration": milliseconds}
    shown[0].save(path, **given, **options)
    return path


def rgb(frames: list[Image.Image]) -> list[np.ndarray]:
    return [np.asarray(frame.convert("RGB")) for frame in frames]


def read(video: Any, indices: list[int]) -> tuple[int, float | None, list[np.ndarray]]:
    with open_video(video) as source:
        frames = [np.asarray(Image.Image.convert(f, "RGB")) for f in source.frames(indices)]
        return source.count, source.fps, frames


LOSSLESS = {"gif": {}, "webp": {"lossless": True}, "png": {}}


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("indices", [[0, 1, 2, 3, 4, 5, 6], [0], [6], [2, 5]], ids=str)
def test_animations(tmp_path: Path, suffix: str, indices: list[int]) -> None:
    frames = drawn(7)
    path = saved(tmp_path / f"a.{suffix}", frames, 200, **LOSSLESS[suffix])
    count, fps, found = read(path, indices)
    assert (count, fps) == (7, 5.0)
    for index, array in zip(indices, found, strict=True):
        assert np.array_equal(array, rgb(frames)[index])


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_each_frame_has_its_time(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", drawn(4), [100, 300, 50, 150], **LOSSLESS[suffix])
    with open_video(path) as source:
        assert source.fps == pytest.approx(4 / 0.6)


def test_frames_without_a_time_last_a_tenth_of_a_second(tmp_path: Path) -> None:
    with open_video(saved(tmp_path / "a.gif", drawn(5), 0)) as source:
        assert source.fps == 10.0


def test_default_picture_of_a_png_is_no_frame(tmp_path: Path) -> None:
    first, *frames = drawn(4)
    path = saved(tmp_path / "a.png", [first, *frames], default_image=True)
    count, _, found = read(path, [0, 2])
    assert count == 3
    assert np.array_equal(found[0], rgb(frames)[0]) and np.array_equal(found[1], rgb(frames)[2])


def test_metadata_of_a_gif_is_left_out(tmp_path: Path) -> None:
    frames = drawn(3)
    path = saved(tmp_path / "a.gif", frames)
    data = path.read_bytes()
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * 40 + b"\0"
    start = data.index(b"\x21\xf9")
    path.write_bytes(data[:start] + comment + data[start:])
    with path.open("rb") as file:
        timed = timing.gif_timing(file)
        assert b"x" * 200 not in timed.file.read()
    assert np.array_equal(read(path, [2])[2][0], rgb(frames)[2])


def test_folder_in_natural_order(tmp_path: Path) -> None:
    frames = drawn(12)
    for number, frame in enumerate(frames):
        frame.save(tmp_path / f"Frame-{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_text("not a frame")
    (tmp_path / "folder.png").mkdir()
    with open_video(tmp_path) as source:
        assert (source.count, source.fps) == (12, None)
        found = [np.asarray(Image.open(path).convert("RGB")) for path in source.frames(range(12))]
    assert all(np.array_equal(a, b) for a, b in zip(found, rgb(frames), strict=True))


def test_natural_order() -> None:
    names = ["b1", "a10.png", "a9.png", "A1.png", "a", "10", "9", "a09.png", ""]
    expected = ["", "9", "10", "a", "A1.png", "a9.png", "a09.png", "a10.png", "b1"]
    assert sorted(sorted(names, reverse=True), key=natural_key) in (
        expected,
        [*expected[:5], "a09.png", "a9.png", *expected[7:]],
    )


# --- from a video to the tiles of a prompt ---


def manifest(video: MethodEntry | None = SECONDS, **config: Any) -> Manifest:
    vision = replace(grid_vision(14, 0), query_num=64, patches_per_row=0, video=video)
    return manifest_of(vision, **config)


def manifest_of(vision: VisionEntry | None, **config: Any) -> Manifest:
    return Manifest(
        model=ModelEntry("MiniCPMV", config),
        target=TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ()),
        scheme={},
        versions={},
        functions={},
        params=(),
        state=StateEntry(200, ()),
        vision=vision,
        prompt=chatml_prompt(),
        tokenizer=TokenizerEntry("tokenizers", "tokenizer.json"),
        vocab_size=100,
        hidden_size=8,
    )


def reader_of(given: Manifest) -> VideoReader:
    assert given.vision is not None
    return VideoReader(given, Preprocessor(given.vision).tiles)


def test_tiles_equal_those_of_the_frames(tmp_path: Path) -> None:
    """A second per frame of a GIF; two slices of a large one at most."""
    frames, given = drawn(5, (500, 470)), manifest()
    path = saved(tmp_path / "a.gif", frames, 500)
    assert given.vision is not None
    found = reader_of(given).frames(path, VideoOptions(), None)
    assert len(found) == 3
    for tiles, index in zip(found, (0, 2, 4), strict=True):
        expected = Preprocessor(given.vision).tiles(frames[index].convert("RGB"), 2)
        assert [tile.role for tile in tiles] == ["overview", "slice", "last"]
        assert len(tiles) == len(expected) == 3
        for a, b in zip(tiles, expected, strict=True):
            assert not isinstance(a, FrameGroup)
            assert np.array_equal(a.strip, b.strip) and a.digest == b.digest
    whole = reader_of(given).frames(path, VideoOptions(frames=1), 1)
    assert [len(tiles) for tiles in whole] == [1]


def test_frames_come_in_groups() -> None:
    """A list is taken to be at the model's rate; 9 frames at 3 per second are too many for 4."""
    given, frames = manifest(GROUPS), [np.asarray(f.convert("RGB")) for f in drawn(9)]
    found = reader_of(given).frames(frames, VideoOptions(), None)
    assert [len(tiles) for tiles in found] == [1, 1, 1]
    groups = [tiles[0] for tiles in found]
    assert all(isinstance(group, FrameGroup) and len(group.frames) == 3 for group in groups)
    assert [g.times for g in groups if isinstance(g, FrameGroup)] == [
        (0, 3, 7),
        (10, 13, 17),
        (20, 23, 27),
    ]
    assert len({group.digest for group in groups}) == 3
    assert [group.rows for group in groups] == [64] * 3
    (alone,) = reader_of(given).frames(frames[:1], VideoOptions(), None)
    assert not isinstance(alone[0], FrameGroup)


def test_an_array_is_a_list_of_frames() -> None:
    array, read = np.stack(rgb(drawn(3))), reader_of(manifest())
    found, listed = (read.frames(v, VideoOptions(), None) for v in (array, list(array)))
    assert [t[0].digest for t in found] == [t[0].digest for t in listed] and len(found) == 3


def test_models_without_videos_are_named() -> None:
    frames = drawn(2)
    with pytest.raises(UsageError, match=r"\(MiniCPMV 4.0\) takes no videos; .* --image"):
        reader_of(manifest(None, version="4.0")).frames(frames, VideoOptions(), None)
    text_only = VideoReader(manifest_of(None), lambda picture, max_slices=None: [])
    with pytest.raises(UsageError, match="takes no videos; it is text-only"):
        text_only.check(VideoOptions())


def test_prepared_video_belongs_to_its_model() -> None:
    given, other = manifest(), manifest(GROUPS)
    assert given.vision is not None
    frames = reader_of(given).frames(drawn(2), VideoOptions(), None)
    prepared = reader.PreparedVideo(frames, given.vision)
    assert reader_of(given).frames(prepared, VideoOptions(), None) is frames
    with pytest.raises(InputError, match="prepared for another model"):
        reader_of(other).frames(prepared, VideoOptions(), None)


# --- hostile input ---


def refused(video: Any, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        reader_of(manifest()).frames(video, VideoOptions(), None)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("video")


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def png_of(width: int, height: int, frames: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    control = struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"acTL", struct.pack(">II", frames, 0))]
    parts += [chunk(b"fcTL", control)] * frames
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def gif_of(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """Two frames, the second of another size."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    pixels = b"\x02\x02\x44\x01\0"
    frames = (b"\x2c" + struct.pack("<HHHHB", 0, 0, *size, 0) + pixels for size in ((1, 1), frame))
    return head + b"".join(frames) + b";"


def still(kind: str) -> bytes:
    data = io.BytesIO()
    drawn(1)[0].convert("RGB").save(data, kind)
    return data.getvalue()


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is a text\n" * 9, "is not a video .GIF, WebP and PNG animations"),
    "jpeg": (still("JPEG"), "is not a video"),
    "still gif": (still("GIF"), "is a single picture; show it with --image"),
    "still png": (still("PNG"), "is a single picture"),
    "still webp": (still("WEBP"), "is a single picture"),
    "gif header": (b"GIF89a", "is a single picture"),
    "gif of blocks": (b"GIF89a" + b"\0" * 7 + b"\x2c" + b"\0" * 9, "is a single picture"),
    "huge png": (png_of(100_000, 100_000, 3), "100000 x 100000 pixels exceed"),
    "huge gif": (gif_of((60_000, 60_000), (3, 3)), "60000 x 60000 pixels exceed"),
    "huge gif frame": (gif_of((3, 3), (60_000, 60_000)), "60000 x 60000 pixels exceed"),
    "large gif": (gif_of((9_000, 9_000), (3, 3)), "9000 x 9000 pixels need .* MB"),
    "damaged png": (png_of(30, 30, 3), "cannot be read"),
    "webp header": (b"RIFF\xff\xff\xff\xffWEBPVP8X", "is a single picture"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    data, named = FILES[name]
    (tmp_path / "video").write_bytes(data)
    refused(tmp_path / "video", named)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_cut_and_damaged_files(tmp_path: Path, suffix: str) -> None:
    """A file that is cut anywhere, or with wrong bytes, is read or refused in one line."""
    path = saved(tmp_path / f"a.{suffix}", drawn(6), 1000, **LOSSLESS[suffix])
    data, random = path.read_bytes(), np.random.default_rng(1)
    for trial in range(60):
        broken = bytearray(data)
        if trial % 2:
            broken = broken[: int(random.integers(1, len(data)))]
        else:
            for place in random.integers(0, len(data), 8):
                broken[place] = int(random.integers(256))
        path.write_bytes(broken)
        try:
            reader_of(manifest()).frames(path, VideoOptions(), None)
        except InputError as error:
            assert str(error).startswith(f"video {str(path)!r}: ") and "\n" not in str(error)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gif = saved(tmp_path / "a.gif", drawn(6), 1000)
    for name, value, named in (
        ("MAX_FRAMES", 5, "has more than 5 frames"),
        ("MAX_BLOCKS", 3, "has more than 3 blocks"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(timing, name, value)
            refused(gif, named)
    with monkeypatch.context() as patch:
        patch.setattr(animation, "MAX_DECODED", 6 * 46 * 34 - 1)
        refused(gif, "6 frames of 46 x 34 exceed the limit")
    with monkeypatch.context() as patch:
        patch.setattr(reader, "MAX_PIXELS", 100_000)
        refused(gif, "pixels would be shown; lower --frames .now 6")


@pytest.mark.parametrize(
    ("video", "named"),
    [
        (
            3,
            "expected the path of a file or folder, a list of frames, or an array of them, got int",
        ),
        (np.zeros((8, 8, 3), np.uint8), "got ndarray"),
        (np.zeros((0, 8, 8, 3), np.uint8), "has 0 frames"),
        (b"GIF89a", "got bytes"),
        ([], "has 0 frames"),
        (["missing.png"], "picture 'missing.png': no such file"),
        ("missing.gif", "video 'missing.gif': no such file"),
        ("/dev/zero", "is a device"),
    ],
)
def test_bad_videos(video: Any, named: str) -> None:
    refused(video, named)


def test_folder_without_pictures(tmp_path: Path) -> None:
    refused(tmp_path, "the folder has no pictures .*png")
    (tmp_path / "1.png").write_bytes(b"not a picture")
    refused(tmp_path, "1.png': is not a picture")


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 40)
    with pytest.raises(InputError, match=r"needs PyAV: pip install 'handglass\[video\]'"):
        check_video(tmp_path / "a.mp4")
    assert container.container_kind(b"\0\0\0\x20ftypisom") == "mov"
