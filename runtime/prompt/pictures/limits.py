"""Limits of one picture. Together they keep the memory that reading takes below 300 MB.

The largest part is the decoded picture, for which Pillow needs up to 4 bytes per pixel, and the
buffers of the decoder. The rest is the intermediate of the resize: one row of the tile's width per
row of the picture. A large picture in slices takes up to 60 MB more: the intermediate is as wide as
the slices of a row together, and ten tiles are kept.
"""

from __future__ import annotations

from handglass.errors import InputError

FILE_BYTES = 256 << 20
PIXELS = 250_000_000  # a phone's camera has 200 million
MEMORY = 260_000_000  # bytes, estimated before decoding
ROW_BYTES = 4 * 448  # of the resized intermediate
METADATA_BYTES = 8 << 20
BLOCKS = 200_000  # segments or chunks of a file
SCANS = 100  # of a progressive JPEG; encoders write about 10
SCANNED_PIXELS = 2_500_000_000  # pixels times scans


def decoded_bytes(width: int, height: int, pixel_bytes: float) -> float:
    """Bytes that a picture of this size takes while it is decoded and resized."""
    return width * height * pixel_bytes + ROW_BYTES * max(width, height)


def check_pixels(width: int, height: int) -> None:
    """Raise InputError for a size that no picture format of ours is read in."""
    if width < 1 or height < 1:
        raise InputError(f"has no pixels ({width} x {height})")
    if width * height > PIXELS:
        raise InputError(
            f"{width} x {height} pixels exceed the limit of {PIXELS}; resize the picture"
        )


def check_memory(width: int, height: int, pixel_bytes: float) -> None:
    """Raise InputError if decoding exceeds the limit of memory or of pixels."""
    check_pixels(width, height)
    needed = decoded_bytes(width, height, pixel_bytes)
    if needed > MEMORY:
        raise InputError(
            f"{width} x {height} pixels need {needed / 1e6:.0f} MB to decode, the limit is "
            f"{MEMORY / 1e6:.0f} MB; resize the picture, or save it as a baseline JPEG"
        )


def check_file(size: int) -> None:
    if size > FILE_BYTES:
        raise InputError(f"{size} bytes exceed the limit of {FILE_BYTES} bytes")


def check_blocks(count: int) -> None:
    if count > BLOCKS:
        raise InputError(f"has more than {BLOCKS} segments; save it again as JPEG or PNG")
