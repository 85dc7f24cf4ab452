"""Pictures of strangers: formats that are read, and limits of time and memory."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import square
from picture_bombs import (
    chunk,
    commented_gif,
    encoded,
    exif,
    many_scans,
    noise,
    overlapping_tiff,
    png,
    tall_jpeg,
    with_segments,
    with_size,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from thinned import thinned

from handglass.errors import InputError
from handglass.runtime.prompt.pictures.read import open_picture, read_picture
from handglass.runtime.prompt.pictures.upright import Upright
from handglass.runtime.prompt.preprocess import Preprocessor

pytestmark = pytest.mark.slow

GROWTH = 300  # MB
READER = """
import re, sys
import numpy
from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from handglass.errors import InputError
from handglass.runtime.prompt.pictures.read import open_picture
open_picture(numpy.zeros((2, 2, 3), numpy.uint8)).resize((4, 4))

def peak():  # getrusage would include the memory of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024 / 1e6

before, result = peak(), "read"
try:
    open_picture(sys.argv[1]).resize((448, 448))
except InputError as error:
    result = f"refused: {error}"
print(peak() - before, result)
"""


def read_in_child(path: Path) -> tuple[float, str]:
    """The growth of the peak memory in MB, and "read" or "refused: MESSAGE"."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    growth, _, result = done.stdout.strip().partition(" ")
    return float(growth), result


def zeros(count: int) -> bytes:
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(count)))


SMALL = encoded(noise(64, 64), "JPEG")
PROGRESSIVE = encoded(noise(64, 64), "JPEG", progressive=True)
LARGE = {
    "phone photograph": lambda: tall_jpeg(12000, 9000),
    "turned phone photograph": lambda: tall_jpeg(12000, 9000, 6),
    "progressive": lambda: encoded(Image.new("L", (8500, 9000)), "JPEG", progressive=True),
    "200 megapixels": lambda: tall_jpeg(16320, 12240, 3),
    "turned PNG": lambda: png(7800, 7800, more=[chunk(b"eXIf", exif(6))]),
    "alpha": lambda: png(7800, 7800, colour=6),
    "black and white": lambda: png(15000, 15000, 1, 0),
    "16 bits": lambda: png(7000, 8000, 16, 0),
    "text": lambda: png(8, 8, more=[zeros(1 << 20)] * 64 + [chunk(b"prVt", bytes(1 << 26))]),
    "JPEG profile": lambda: with_segments(SMALL, 0xE2, 2000),
    "JPEG comments": lambda: with_segments(SMALL, 0xFE, 2000),
    "GIF comment": lambda: commented_gif(40),
    "GIF": lambda: encoded(Image.new("P", (9000, 9000)), "GIF"),
    "WebP": lambda: encoded(Image.new("RGB", (4000, 3900)), "WEBP", lossless=True, method=0),
    "turned TIFF": lambda: encoded(
        Image.new("RGB", (5500, 5000)), "TIFF", compression="tiff_lzw", tiffinfo={274: 6}
    ),
}


@pytest.mark.parametrize("case", thinned(3, LARGE))
def test_large_pictures_are_read_in_bounded_memory(tmp_path: Path, case: str) -> None:
    (tmp_path / "x").write_bytes(LARGE[case]())
    growth, result = read_in_child(tmp_path / "x")
    assert result == "read"
    assert growth < GROWTH


REFUSED = {
    "RGB": (lambda: png(9000, 9000), "9000 x 9000"),
    "pixels": (lambda: png(60000, 60000, 1, 0), "60000 x 60000"),
    "long": (lambda: png(1, 1_000_000), "1 x 1000000"),
    "progressive": (lambda: with_size(PROGRESSIVE, 12000, 9000), "12000 x 9000"),
    "scans of large picture": (lambda: with_size(many_scans(90), 6500, 6000), "6500 x 6000"),
    "huge JPEG": (lambda: with_size(SMALL, 65000, 65000), "65000 x 65000"),
    "WebP": (lambda: encoded(Image.new("L", (16383, 2000)), "WEBP", method=0), "16383 x 2000"),
    "tags": (lambda: overlapping_tiff(1000, 1 << 20), "tags"),
    "entries": (lambda: overlapping_tiff(25000, 1), "25009 entries"),
}


@pytest.mark.parametrize("case", thinned(3, REFUSED))
def test_larger_pictures_are_refused_in_bounded_memory(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    (tmp_path / "x").write_bytes(make())
    growth, result = read_in_child(tmp_path / "x")
    assert result.startswith("refused: ") and message in result
    assert growth < GROWTH


def test_scans_are_counted_before_decoding() -> None:
    with Image.open(io.BytesIO(many_scans(60))) as expected:
        assert np.array_equal(np.asarray(read_picture(many_scans(60))), np.asarray(expected))
    with pytest.raises(InputError, match="100 scans"):
        read_picture(many_scans(120))


def test_scans_after_a_stray_marker_count() -> None:
    data = many_scans(0)
    last = data.rindex(b"\xff\xda")
    strays = b"garbage\xff\xff\xd3\xff\x00" + data[last:-2]
    with pytest.raises(InputError, match="100 scans"):
        read_picture(data[:-2] + strays * 120 + b"\xff\xd9")


UNREAD = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(60),
    "AVIF": b"\0\0\0\x18ftypavif" + bytes(60),
    "PDF": b"%PDF-1.7\n",
    "ICO": encoded(noise(16, 16), "ICO"),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_other_formats_are_named_with_the_way_out(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.jpg").write_bytes(UNREAD[kind])
    with pytest.raises(InputError, match=rf"x\.jpg.*{kind}.*JPEG"):
        read_picture(tmp_path / "x.jpg")


@pytest.mark.parametrize("name", ["holiday-eps.jpg", "scans-300.jpg", "canvas-88M.jp2"])
def test_known_cases_are_refused(name: str) -> None:
    path = Path(__file__).parents[3] / "shared" / "cases" / name
    if not path.exists():
        pytest.skip("damaged files of users are read from ../shared/cases")
    growth, result = read_in_child(path)
    assert result.startswith("refused: ") and growth < GROWTH


def test_files_that_are_not_regular_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(InputError, match=f"{name}.*regular"):
            read_picture(tmp_path / name)


MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_strips_resize_rows_then_columns(
    monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    image = noise(61, 47).convert("L").convert("I;16") if mode == "I;16" else noise(61, 47)
    image = image.convert("P").convert(mode) if mode == "LA" else image.convert(mode)
    image.getexif()[0x0112] = orientation
    whole, bicubic = read_picture(image), Image.Resampling.BICUBIC
    for left, top, right, bottom in ((0, 0, *whole.size), (0.3, 10.2, 30.9, 33.3)):
        for side in (7, 44, 90):
            narrow = whole.resize((side, whole.height), bicubic, (left, 0, right, whole.height))
            expected = narrow.resize((side, side), bicubic, (0, top, side, bottom))
            with monkeypatch.context() as patch:
                patch.setattr("handglass.runtime.prompt.pictures.upright._STRIP_PIXELS", 200)
                patch.setattr(Upright, "_copy_fits", lambda _: False)
                result = open_picture(image).resize((side, side), (left, top, right, bottom))
            assert np.array_equal(np.asarray(result), np.asarray(expected))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_files_with_metadata_are_read_as_pillow_reads_them(
    tmp_path: Path, format: str, orientation: int
) -> None:
    image, info = noise(50, 31), Image.Exif()
    info[0x0112] = orientation
    info.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    options = {"exif": info, "icc_profile": bytes(200)}
    (tmp_path / "x").write_bytes(encoded(image, format, **options))
    turned = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    with Image.open(tmp_path / "x") as opened:
        info = opened.getexif()
        opened.load()
        plain = np.asarray(opened)
    expected = plain if format == "TIFF" else np.rot90(plain, turned)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "x")), expected)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("info", [b"", exif(3)])
def test_an_orientation_in_xmp_counts_if_exif_has_none(format: str, info: bytes) -> None:
    options: dict[str, Any] = {"exif": b"Exif\0\0" + info} if info else {}
    if format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif format == "WEBP":
        options["xmp"] = XMP
    data = encoded(noise(30, 20), format, **options)
    if format == "JPEG":
        body = b"http://ns.adobe.com/xap/1.0/\0" + XMP
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(np.asarray(read_picture(data)), np.rot90(plain, 2 if info else 3))


def test_a_photograph_with_a_preview_inside_is_read() -> None:
    first, second = noise(40, 30), noise(20, 15)
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(read_picture(data)), expected)


def test_only_a_picture_beyond_the_limit_is_decoded_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = encoded(Image.linear_gradient("L").resize((640, 480)).convert("RGB"), "JPEG")
    assert open_picture(picture).size == (640, 480)
    monkeypatch.setattr("handglass.runtime.prompt.pictures.limits.MEMORY", 1_700_000)
    assert open_picture(picture).size == (320, 240)
    small = Preprocessor(square(28, 14, 4, 70, (0.5,) * 3, (0.5,) * 3)).tiles(picture)[0]
    monkeypatch.undo()
    exact = Preprocessor(square(28, 14, 4, 70, (0.5,) * 3, (0.5,) * 3)).tiles(picture)[0]
    assert np.abs(small.strip - exact.strip).max() < 0.05


def test_a_slow_decoder_gets_small_pictures_only() -> None:
    assert read_picture(b"P3 2 1 255\n1 2 3 4 5 6\n").size == (2, 1)
    with pytest.raises(InputError, match="3000 x 3000"):
        read_picture(b"P3 3000 3000 255\n")
    rle = bytearray(encoded(Image.new("P", (3000, 3000)), "BMP"))
    struct.pack_into("<I", rle, 30, 1)
    with pytest.raises(InputError, match="3000 x 3000"):
        read_picture(bytes(rle))
