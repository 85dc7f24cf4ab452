"""A small picture as what terminals show: kitty's and iTerm2's protocols, sixels, coloured blocks.

Sources: sw.kovidgoyal.net/kitty/graphics-protocol, iterm2.com/documentation-images.html, the sixel
graphics of DEC's VT330/VT340 manuals, and ECMA-48 for colours.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

KITTY_CHUNK = 4096  # bytes of base64 in one escape sequence, at most
SIXEL_COLOURS = 128  # terminals have 256 registers or more
SIXEL_ROWS = 6  # of pixels in one row of sixels
UPPER_HALF = "▀"
RESET = "\x1b[0m"
CUBE = np.array([0, 95, 135, 175, 215, 255])  # levels of the 6 x 6 x 6 colours of 256


def kitty(picture: Image, columns: int, rows: int) -> str:
    """The picture for kitty, Ghostty and others, scaled by the terminal into columns x rows."""
    data = base64.standard_b64encode(_png(picture)).decode()
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    first = f"a=T,f=100,q=2,c={columns},r={rows},"
    parts = (
        f"\x1b_G{'' if number else first}m={int(number + 1 < len(chunks))};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )
    return "".join(parts) + "\n"


def iterm(picture: Image, columns: int, rows: int) -> str:
    """The picture for iTerm2, WezTerm, mintty and others, scaled by the terminal."""
    png = _png(picture)
    options = f"inline=1;size={len(png)};width={columns};height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={options}:{base64.standard_b64encode(png).decode()}\x07\n"


def sixel(picture: Image) -> str:
    """The picture as sixels, in its own size."""
    reduced = picture.convert("RGB").quantize(SIXEL_COLOURS)
    pixels = np.asarray(reduced)  # (h, w) numbers of colours
    palette = np.asarray(reduced.getpalette(), np.int64).reshape(-1, 3)
    used = np.unique(pixels)
    colours = "".join(_register(number, palette[number]) for number in used)
    bands = (pixels[top : top + SIXEL_ROWS] for top in range(0, len(pixels), SIXEL_ROWS))
    raster = f'"1;1;{picture.width};{picture.height}'
    return f"\x1bP0;1q{raster}{colours}{'-'.join(map(_band, bands))}\x1b\\\n"


def blocks(picture: Image, is_true_colour: bool) -> str:
    """Two rows of pixels in each line of text: the upper as letter, the lower as background."""
    pixels = np.asarray(picture.convert("RGB"))  # (h, w, 3)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    lines = zip(pixels[::2], pixels[1::2], strict=True)
    return "".join(f"{_line(upper, lower, is_true_colour)}{RESET}\n" for upper, lower in lines)


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _register(number: int, colour: np.ndarray) -> str:
    """A colour register; its parts are in percent."""
    red, green, blue = (round(part * 100 / 255) for part in colour.tolist())
    return f"#{number};2;{red};{green};{blue}"


def _band(pixels: np.ndarray) -> str:
    """Up to six rows of pixels: the sixels of one colour over the other."""
    weights = 1 << np.arange(len(pixels))[:, None]
    rows = ((number, (weights * (pixels == number)).sum(0)) for number in np.unique(pixels))
    return "$".join(f"#{number}{''.join(_runs(63 + bits))}" for number, bits in rows)


def _runs(codes: np.ndarray) -> Iterator[str]:
    """The letters of a row of sixels; a letter that repeats is counted."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, count in zip(starts, np.diff(starts, append=len(codes)), strict=True):
        letter = chr(codes[start])
        yield f"!{count}{letter}" if count > 3 else letter * count


def _line(upper: np.ndarray, lower: np.ndarray, is_true_colour: bool) -> str:
    code = _true_colour if is_true_colour else _of_256
    pairs = zip(upper, lower, strict=True)
    return "".join(f"\x1b[38;{code(above)};48;{code(below)}m{UPPER_HALF}" for above, below in pairs)


def _true_colour(pixel: np.ndarray) -> str:
    return "2;{};{};{}".format(*pixel)


def _of_256(pixel: np.ndarray) -> str:
    """The nearest colour of the cube."""
    red, green, blue = (int(np.abs(CUBE - int(part)).argmin()) for part in pixel)
    return f"5;{16 + 36 * red + 6 * green + blue}"
