"""Preprocessing of all kinds of pictures, and one-line errors that name the picture."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import square
from PIL import Image

from handglass.errors import InputError
from handglass.runtime.prompt.preprocess import Preprocessor, Tile, read_picture

HALF = (0.5, 0.5, 0.5)
RANDOM = np.random.default_rng(5)


def rgb(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def run(
    picture: Any,
    size: int = 28,
    patch: int = 14,
    mean: tuple[float, ...] = HALF,
    std: tuple[float, ...] = HALF,
) -> Tile:
    (tile,) = Preprocessor(square(size, patch, 4, 70, mean, std)).tiles(picture)
    return tile


@pytest.mark.parametrize(("height", "width"), [(28, 28), (31, 77), (1, 1), (1, 5000), (500, 3)])
@pytest.mark.parametrize(("size", "patch"), [(28, 14), (42, 14), (12, 3)])
def test_pixels_are_those_of_the_obvious_loops(
    height: int, width: int, size: int, patch: int
) -> None:
    picture = rgb(height, width)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    pixels = run(picture, size, patch, mean, std)
    resized = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    side = size // patch
    assert (pixels.height, pixels.width) == (side, side)
    assert pixels.strip.shape == (3, patch, patch * side * side)
    for i in range(side * side):
        row, col = i // side, i % side
        assert pixels.grid[i].tolist() == [row, col]
        tile = resized[patch * row : patch * (row + 1), patch * col : patch * (col + 1)]
        for c in range(3):
            x = tile[:, :, c].astype(np.float32) / np.float32(255)
            expected = (x - np.float32(mean[c])) / np.float32(std[c])
            assert np.array_equal(pixels.strip[c, :, patch * i : patch * (i + 1)], expected)


def test_types_are_those_of_the_contract() -> None:
    pixels = run(rgb(9, 9))
    assert pixels.strip.dtype == np.float32 and pixels.strip.flags.c_contiguous
    assert pixels.grid.dtype == np.int32 and pixels.grid.shape == (4, 2)


def test_the_digest_tells_pictures_apart() -> None:
    a, b = rgb(30, 30), rgb(30, 30)
    assert run(a).digest == run(a.copy()).digest != run(b).digest
    assert run(a, 28, 14).digest != run(a, 28, 7).digest


def test_every_way_to_give_a_picture_is_the_same(tmp_path: Path) -> None:
    array = rgb(20, 33)
    image = Image.fromarray(array)
    path = tmp_path / "x.png"
    image.save(path)
    ways = [
        array,
        image,
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        Image.open(path),
    ]
    assert {run(way).digest for way in ways} == {run(array).digest}


def test_the_callers_image_is_left_as_it_was() -> None:
    image = Image.fromarray(rgb(8, 9)).convert("P")
    before = image.tobytes()
    run(image)
    assert image.mode == "P" and image.size == (9, 8) and image.tobytes() == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_orientation_is_applied(orientation: int) -> None:
    array = np.zeros((40, 60, 3), np.uint8)
    array[:10, :20] = (255, 0, 0)
    upright = {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}
    turned = array.transpose(1, 0, 2)
    upright |= {5: turned, 6: turned[:, ::-1], 7: turned[::-1, ::-1], 8: turned[::-1]}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(array), "PNG", exif=exif)
    assert np.array_equal(np.asarray(read_picture(data)), upright[orientation])


def colours(frames: int) -> list[Image.Image]:
    return [Image.new("RGB", (12, 10), (40 * i + 30, 200 - 50 * i, 90)) for i in range(frames)]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    first, *rest = colours(3)
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=rest, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.asarray(read_picture(data))[5, 5].tolist() == [30, 200, 90]


def test_an_open_animation_is_read_at_the_frame_where_it_stands() -> None:
    first, *rest = colours(3)
    image = Image.open(io.BytesIO(encoded(first, "GIF", save_all=True, append_images=rest)))
    image.seek(2)
    assert np.asarray(read_picture(image))[5, 5].tolist() == [110, 100, 90]


GREY16 = np.array([[0, 1, 128, 129], [257, 32768, 65534, 65535]], np.uint16)
GREY8 = np.round(GREY16 / 257).astype(np.uint8)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_files_are_scaled_not_clipped(format: str) -> None:
    data = encoded(Image.fromarray(GREY16), format)
    assert np.array_equal(np.asarray(read_picture(data))[..., 0], GREY8)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bit_images_in_memory_are_scaled(mode: str) -> None:
    order = ">u2" if mode == "I;16B" else "<u2"
    values = GREY16.astype("<i4") if mode == "I" else GREY16.astype(order)
    image = Image.frombytes(mode, (4, 2), values.tobytes())
    for channel in range(3):
        assert np.array_equal(np.asarray(read_picture(image))[..., channel], GREY8)
    assert np.array_equal(np.asarray(read_picture(GREY16))[..., 1], GREY8)


@pytest.mark.parametrize("value", [-1, 65536])
def test_grey_values_beyond_sixteen_bit_are_refused(value: int) -> None:
    with pytest.raises(InputError, match=f"{value}.*16 bit"):
        read_picture(Image.new("I", (3, 3), value))


def test_alpha_is_dropped_not_blended() -> None:
    array = np.concatenate([rgb(6, 5), np.full((6, 5, 1), 3, np.uint8)], axis=2)
    assert np.array_equal(np.asarray(read_picture(array)), array[..., :3])
    grey = np.stack([array[..., 0], array[..., 3]], axis=2)
    image = Image.fromarray(grey)
    assert image.mode == "LA"
    assert np.array_equal(np.asarray(read_picture(image)), array[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ("format", "transparency"), [("PNG", 0), ("PNG", bytes([0, 255, 10, 0])), ("GIF", 0)]
)
def test_palettes_keep_their_colours_without_alpha(format: str, transparency: Any) -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    image.putdata([0, 1, 2, 3])
    data = encoded(image, format, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = np.asarray(read_picture(data))
    assert seen[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "PA", "RGBX"]
)
def test_other_modes_convert_as_pillow_does(mode: str) -> None:
    image = Image.fromarray(rgb(7, 5)).convert("RGBA" if mode == "PA" else "RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    assert np.array_equal(np.asarray(read_picture(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha_is_undone(mode: str) -> None:
    straight = mode.upper()
    image = Image.new(straight, (3, 3), (200, 100, 50, 128) if mode == "RGBa" else (200, 128))
    seen = np.asarray(read_picture(image.convert(mode)))[0, 0].astype(int)
    expected = np.asarray(image.convert("RGB"))[0, 0]
    assert abs(seen - expected).max() <= 2  # premultiplying rounds


def test_cmyk_jpegs_are_read() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = np.asarray(read_picture(data))[8, 8].tolist()
    assert red > 240 and green < 15 and blue < 15


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header declares an arbitrary size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


JPEG = encoded(Image.fromarray(rgb(64, 64)), "JPEG")
PNG = encoded(Image.fromarray(rgb(64, 64)), "PNG")
BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"I am no picture at all", "PNG, JPEG"),
    "cut JPEG": (JPEG[: len(JPEG) // 2], "cannot be read: .*truncated"),
    "cut PNG": (PNG[: len(PNG) // 2], "cannot be read: "),
    "PNG without data": (png(8, 8), "cannot be read"),
    "wrong checksum": (PNG[:45] + b"\0\0\0\0" + PNG[49:], "cannot be read|damaged"),
    "bomb": (png(60000, 60000), "60000 x 60000 pixels"),
    "a little too large": (png(10000, 10000), "10000 x 10000 pixels"),
    "no pixels": (b"P6 0 5 255\n", "no pixels|cannot be read|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_line_with_their_name(tmp_path: Path, case: str) -> None:
    data, message = BAD_FILES[case]
    path = tmp_path / "bad picture.jpg"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as caught:
            run(path)
        with pytest.raises(InputError, match=message) as from_bytes:
            run(data)
    assert "bad picture.jpg" in str(caught.value) and "\n" not in str(caught.value)
    assert f"({len(data)} bytes)" in str(from_bytes.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png'"):
        run(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        run("a\0b")


def test_a_file_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("handglass.runtime.prompt.pictures.limits.FILE_BYTES", len(PNG))
    (tmp_path / "x.png").write_bytes(PNG)
    run(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(PNG + b"x")
    with pytest.raises(InputError, match=f"{len(PNG)} bytes"):
        run(tmp_path / "x.png")


BAD_VALUES = {
    "none": None,
    "number": 7,
    "list": [[1, 2], [3, 4]],
    "float array": np.zeros((4, 4, 3)),
    "five channels": np.zeros((4, 4, 5), np.uint8),
    "four axes": np.zeros((1, 4, 4, 3), np.uint8),
    "empty array": np.zeros((0, 4, 3), np.uint8),
    "float image": Image.new("F", (3, 3), 0.5),
    "empty image": Image.new("RGB", (0, 4)),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_that_are_no_pictures_are_refused(case: str) -> None:
    with pytest.raises(InputError, match="^picture ") as caught:
        run(BAD_VALUES[case])
    assert "\n" not in str(caught.value)


def test_a_limit_of_pillow_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    run(PNG)
    run(JPEG)


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"]
)
def test_random_damage_is_never_another_error(format: str) -> None:
    data = encoded(Image.fromarray(rgb(16, 16)), format)
    for i in range(60):
        damaged = bytearray(data)
        for _ in range(RANDOM.integers(1, 8)):
            damaged[RANDOM.integers(0, min(len(data), 300))] = RANDOM.integers(0, 256)
        cut = damaged[: RANDOM.integers(1, len(data))] if i % 3 == 0 else damaged
        try:
            run(bytes(cut))
        except InputError as error:
            assert "\n" not in str(error)
