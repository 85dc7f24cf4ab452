"""Text from files, escaped so that a terminal only shows it.

Control characters can move the cursor, change colors or the window title; format characters can
reorder text; lone surrogates cannot be encoded. All of them are shown as Python escapes.
"""

from __future__ import annotations

import json
from typing import Any


def printable(text: object, lines: bool = False) -> str:
    """`str(text)` with every character that is not printable escaped; with `lines`, newlines stay.

    A printable character has a glyph or is the space: see `str.isprintable`.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in shown)


def json_text(value: Any) -> str:
    """The JSON text of a value on one line; characters that are not printable become \\u escapes.

    Raises ValueError for a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
