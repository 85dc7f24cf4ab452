"""A question, whichever interface it came through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON, SCHEMA, LARK, GBNF, REGEX = "json_object", "json_schema", "lark", "gbnf", "regex"


@dataclass(frozen=True)
class Format:
    """What the answer must consist of: `text` is a schema, a grammar or a regular expression."""

    kind: str
    text: str = ""
    name: str = ""


@dataclass(frozen=True)
class ShownPicture:
    """A picture as the request names it: a data URL, or a URL that may be fetched."""

    url: str
    param: str  # where in the body
    is_small: bool = False  # an overview is enough


@dataclass(frozen=True)
class Asked:
    model: str
    turns: Sequence[Mapping[str, Any]]
    """Messages of `Model.chat`; a picture is a ShownPicture."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Model.chat` that are given."""
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    format: Format | None = None
    user: str = ""

    @property
    def pictures(self) -> list[ShownPicture]:
        parts = (part for turn in self.turns for part in turn["content"])
        return [part["image"] for part in parts if part["type"] == "image"]

    @property
    def text_bytes(self) -> int:
        parts = (part for turn in self.turns for part in turn["content"])
        return sum(len(part["text"].encode()) for part in parts if part["type"] == "text")
