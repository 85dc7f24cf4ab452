"""Text from files and from models, escaped so that a terminal only shows it.

Control characters can move the cursor, change colors or the window title; format characters can
reorder text; lone surrogates cannot be encoded. All of them are shown as Python escapes.
"""

from __future__ import annotations

import json
import re
from typing import Any

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 without tab and newline, DEL, C1, and what overrides, embeds or isolates a direction."""


def printable(text: object, lines: bool = False) -> str:
    """`str(text)` with every character that is not printable escaped; with `lines`, newlines stay.

    A printable character has a glyph or is the space: see `str.isprintable`.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in shown)


def answer_text(text: str) -> str:
    """Text of a model for a terminal: only what commands a terminal or reorders lines is escaped.

    Unlike `printable` it keeps what joins and separates the characters of emoji and of many
    scripts. Each character is treated alone, so the pieces of an answer can be shown one by one.
    """
    return _COMMANDS.sub(lambda found: _escaped(found[0]), text)


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
