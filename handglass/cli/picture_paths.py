"""Paths of pictures as people enter them: typed, or dragged from a window onto the terminal.

Depending on the desktop, dragging types the path plainly, in quotes, with backslashes before spaces
or as a `file://` URL; several files are separated by spaces.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from handglass.runtime.prompt.pictures.suffixes import SUFFIXES, UNREAD_SUFFIXES


def entered_path(text: str) -> Path:
    """The path that `text` means: as it is where such a file exists, else unquoted."""
    plain = expanded(text)
    if _exists(plain):
        return plain
    words = _words(text)
    return words[0] if len(words) == 1 else plain


def entered_pictures(line: str) -> list[Path]:
    """The pictures that a line names if it names nothing else; empty for a question."""
    words = [expanded(line), *_words(line)]
    if _is_picture(words[0]):
        return words[:1]
    return words[1:] if all(map(_is_picture, words[1:])) else []


def expanded(text: str) -> Path:
    """The path, with `~` replaced; unchanged if there is no such user or home folder."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _words(text: str) -> list[Path]:
    try:
        words = shlex.split(text)
    except ValueError:  # a quotation mark without its pair
        return []
    return [_plain(word) for word in words]


def _plain(word: str) -> Path:
    if word.startswith("file://"):
        return Path(unquote(urlsplit(word.replace("?", "%3F").replace("#", "%23")).path))
    return expanded(word)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES + UNREAD_SUFFIXES and _exists(path)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
