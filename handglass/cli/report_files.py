"""Reads and writes the files of `handglass report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import InputError, UsageError

if TYPE_CHECKING:
    from handglass.runtime.pages.content import Content

OURS = 4096
"""Bytes at the beginning of a file, in which a page or a picture says that it is one of ours."""


def read(path: Path, limit: int) -> bytes:
    """Raises InputError."""
    from handglass.runtime.system.regular_file import read_regular

    try:
        return read_regular(path, limit)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def check_output(path: Path) -> None:
    """Raise UsageError for an output that cannot be written, or would replace another file."""
    from handglass.runtime.pages.page import MARK

    if not path.parent.is_dir():
        raise UsageError(f"{path}: {path.parent} is not a folder; create it first")
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path}: is not a file; name another one")
    with path.open("rb") as file:
        if MARK.encode() not in file.read(OURS):
            raise UsageError(f"{path}: exists and is no report; delete it or name another file")


def draw(sides: Sequence[Content], alone: bool) -> str:
    """The page, or the roofline plot alone."""
    from handglass.runtime.pages.page import MARK, draw_page
    from handglass.runtime.pages.roofline import draw_roofline
    from handglass.runtime.pages.svg import standalone

    if not alone:
        return draw_page(sides)
    measured = [side for side in sides if side.measured]
    if not measured:
        raise InputError(f"nothing was measured, so there is no plot: {sides[0].not_measured}")
    heading = " and ".join(dict.fromkeys(side.bundle.model for side in measured))
    return (
        MARK
        + "\n"
        + standalone(draw_roofline(measured, f"{heading}: every kernel against the limits"))
    )


def write(path: Path, text: str) -> None:
    """Raises InputError."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
