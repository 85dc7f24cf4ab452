"""Shows a picture in the terminal, small, in the best way that the terminal has.

Nothing is shown on a pipe, on a terminal without colours, or where NO_COLOR is set. What a terminal
can do is read from its environment variables; whether it draws sixels only from its answer to a
question (primary device attributes, ECMA-48), which every terminal since the VT100 gives.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import picture_codes

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS, ROWS = 44, 14  # of the largest preview, in cells
CELL_WIDTH, CELL_HEIGHT = 9, 18  # pixels of a cell, where the terminal does not say
ANSWER_S = 0.5  # how long a terminal may take to answer
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]+)c")
SIXELS = "4"  # among the attributes

AUTO, OFF, KITTY, ITERM, SIXEL, BLOCKS = "auto", "off", "kitty", "iterm", "sixel", "blocks"
WAYS = (AUTO, OFF, KITTY, ITERM, SIXEL, BLOCKS)


class Preview:
    """Shows pictures on standard error in one of WAYS; `auto` asks the terminal, once."""

    def __init__(self, way: str = AUTO) -> None:
        self._way = way
        self._found = ""

    @property
    def way(self) -> str:
        """How pictures are shown on this terminal: one of WAYS but not `auto`."""
        if not sys.stderr.isatty():
            return OFF
        if self._way != AUTO:
            return self._way
        self._found = self._found or best_way(os.environ)
        return self._found

    def show(self, picture: Image) -> None:
        """Print the picture; `picture` is changed."""
        if self.way != OFF:
            print(drawn(picture, self.way, os.environ), end="", file=sys.stderr, flush=True)


def best_way(environment: Mapping[str, str]) -> str:
    """The best way that the terminal of this process has."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "NO_COLOR" in environment or term in ("", "dumb"):
        return OFF
    if "TMUX" not in environment and not term.startswith("screen"):
        if "KITTY_WINDOW_ID" in environment or "kitty" in term or program == "ghostty":
            return KITTY
        if program in ("iTerm.app", "WezTerm", "mintty"):
            return ITERM
    if _draws_sixels():
        return SIXEL
    return BLOCKS if _is_true_colour(environment) or "256color" in term else OFF


def drawn(picture: Image, way: str, environment: Mapping[str, str]) -> str:
    """The text that shows the picture, at most COLUMNS x ROWS cells large."""
    cell_width, cell_height = _cell()
    columns, rows = cells(picture.size, cell_width / cell_height)
    if way == BLOCKS:
        small = picture.resize((columns, rows * 2), reducing_gap=3.0)
        return picture_codes.blocks(small, _is_true_colour(environment))
    picture.thumbnail((columns * cell_width, rows * cell_height), reducing_gap=3.0)
    if way == SIXEL:
        return picture_codes.sixel(picture)
    return (picture_codes.kitty if way == KITTY else picture_codes.iterm)(picture, columns, rows)


def cells(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Columns and rows of a picture, whose sides are kept in proportion.

    `aspect`: width of a cell by its height.
    """
    width, height = size
    scale = min(_columns() / width, ROWS / (height * aspect))
    return max(1, round(width * scale)), max(1, round(height * scale * aspect))


def _columns() -> int:
    with contextlib.suppress(OSError):
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        if columns > 0:  # 0: nobody has told the terminal's size
            return max(1, min(COLUMNS, columns - 1))
    return COLUMNS


def _cell() -> tuple[int, int]:
    """Width and height of a cell in pixels."""
    import fcntl
    import struct
    import termios

    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        rows, columns, width, height = struct.unpack("4H", answer)
        if rows and columns and width >= columns and height >= rows:
            return width // columns, height // rows
    return CELL_WIDTH, CELL_HEIGHT


def _is_true_colour(environment: Mapping[str, str]) -> bool:
    return environment.get("COLORTERM", "") in ("truecolor", "24bit")


def _draws_sixels() -> bool:
    """Ask the terminal, if a person may be typing into it."""
    import termios
    import tty

    if not sys.stdin.isatty():
        return False
    descriptor = sys.stdin.fileno()
    if select.select([descriptor], [], [], 0)[0]:  # lines that were typed or pasted ahead
        return False
    with contextlib.suppress(OSError, termios.error):
        before = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor, termios.TCSANOW)
            os.write(sys.stderr.fileno(), b"\x1b[c")
            return SIXELS in _answered(descriptor)
        finally:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
    return False


def _answered(descriptor: int) -> list[str]:
    """The attributes that the terminal reports within ANSWER_S."""
    seen, end = b"", time.monotonic() + ANSWER_S
    while not (match := _ATTRIBUTES.search(seen)):
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            return []
        seen += os.read(descriptor, 256)
    return match[1].decode().split(";")
