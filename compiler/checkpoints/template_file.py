"""The chat template of a checkpoint, as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.regular_file import read_regular

from .tokenizer_config import tokenizer_config

LARGEST = 1 << 20  # bytes of chat_template.jinja
SEPARATE = "chat_template.jinja"


@dataclass(frozen=True)
class TemplateFile:
    """Both are empty if the checkpoint does not say."""

    text: str = ""
    bos: str = ""
    """The string of the begin token."""
    eos: str = ""
    """The string of the end token."""


def read_template(folder: Path) -> TemplateFile:
    """The template of chat_template.jinja, else of tokenizer_config.json.

    Raises InputError for a damaged file.
    """
    config = tokenizer_config(folder)
    bos, eos = (text_of(config.get(f"{name}_token")) for name in ("bos", "eos"))
    return TemplateFile(_separate(folder) or _default(config), bos, eos)


def _separate(folder: Path) -> str:
    path = folder / SEPARATE
    if not path.is_file():
        return ""
    try:
        return read_regular(path, LARGEST).decode()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None


def _default(config: dict[str, Any]) -> str:
    """Several templates are a list of {"name", "template"}."""
    value = config.get("chat_template")
    if isinstance(value, list):
        entries = [entry for entry in value if isinstance(entry, dict)]
        named = {str(entry.get("name")): entry.get("template") for entry in entries}
        value = named.get("default")
    return value if isinstance(value, str) else ""


def text_of(token: Any) -> str:
    """A token is a string, or an object with its text."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else ""
