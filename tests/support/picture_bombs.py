"""Small picture files that unpack to large pictures, made without holding those in memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(7)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def exif(orientation: int) -> bytes:
    """EXIF data with one tag."""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, bits: int = 8, colour: int = 2, more: Iterable[bytes] = ()
) -> bytes:
    """A black PNG with `more` chunks before its pixels."""
    row = 1 + (width * bits * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(row)) for _ in range(height)]
    body = b"".join([*pieces, packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *more, chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tall_jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    """A baseline JPEG of any height: a strip of 128 rows, repeated at its restart markers."""
    strip = Image.linear_gradient("L").resize((width, 128)).convert("RGB")
    options = {"exif": b"Exif\0\0" + exif(orientation), "restart_marker_rows": 1}
    data = with_size(encoded(strip, "JPEG", **options), width, height)
    start = data.index(b"\xff\xda")
    start += 2 + struct.unpack_from(">H", data, start + 2)[0]
    rows = data[start:-2]
    repeats = -(-height // 128)
    return data[:start] + b"\xff\xd7".join([rows] * repeats) + b"\xff\xd9"


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header states another size."""
    at = next(jpeg.index(mark) for mark in (b"\xff\xc0\0", b"\xff\xc2\0") if mark in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def with_segments(jpeg: bytes, kind: int, count: int) -> bytes:
    """A JPEG with `count` segments of 64 kB after its first marker."""
    body = (b"ICC_PROFILE\0\x01\x01" if kind == 0xE2 else b"").ljust(0xFFFD, b"x")
    segment = bytes([0xFF, kind]) + struct.pack(">H", 0xFFFF) + body
    return jpeg[:2] + segment * count + jpeg[2:]


def overlapping_tiff(entries: int, size: int) -> bytes:
    """A TIFF whose many tags all refer to the same bytes."""
    plain = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: 64}
    head = 8 + 2 + 12 * (len(plain) + entries) + 4
    table = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in plain.items()]
    table += [struct.pack("<HHII", 40000 + i, 7, size, head) for i in range(entries)]
    count = struct.pack("<H", len(table))
    return b"II*\0\x08\0\0\0" + count + b"".join(table) + bytes(4 + size)


def commented_gif(megabytes: int) -> bytes:
    """A GIF with a long comment before its only frame."""
    data = encoded(noise(8, 8), "GIF")
    start = 13 + (3 << ((data[10] & 7) + 1))
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * (megabytes << 12) + b"\0"
    return data[:start] + comment + data[start:]
