"""Renders messages into token ids with slots for picture tiles, using the manifest's template.

A prompt is the begin token, then for each turn the marker before its role, the text exactly as
typed, and the marker after it, and finally the marker that opens an answer.
`(<image>./</image>)` marks the position of a picture; without marks, the pictures come first. This
module does not handle pixels: the caller supplies the tiles of each picture and their roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from handglass.errors import InputError, MismatchError

from ..bundle.entries import Around, PromptEntry
from .tokenizer import Tokenizer

MARK = "(<image>./</image>)"
SYSTEM, TALK = "system", ("user", "assistant")


class HasRole(Protocol):
    """The part of a tile that the template reads."""

    @property
    def role(self) -> str: ...


T = TypeVar("T", bound=HasRole)


@dataclass(frozen=True)
class Tokens:
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """A place for the embedding rows of tile `tile` of `Prompt.pictures[picture]`."""

    picture: int
    tile: int


@dataclass(frozen=True)
class Prompt:
    segments: tuple[Tokens | Slot, ...]
    pictures: tuple[Sequence[Any], ...]
    """The tiles of each picture, as returned by `tiles_of`."""


@dataclass(frozen=True)
class _Picture:
    """A picture inside a message, as opposed to a text part."""

    picture: Any


_MARK = _Picture(None)  # a mark in the text, to be replaced by the next of `images`
Part = str | _Picture


def build_prompt(
    messages: str | Sequence[Mapping[str, Any]],
    images: Sequence[Any],
    tokenizer: Tokenizer,
    template: PromptEntry,
    tiles_of: Callable[[Any], Sequence[T]],
) -> Prompt:
    """Build the prompt for `messages`; `tiles_of` returns the tiles of one picture.

    Raises InputError for malformed messages, MismatchError if the template lacks a tile role.
    """
    turns = _place_images(_turns(messages, template), images)
    pictures = [p.picture for _, parts in turns for p in parts if isinstance(p, _Picture)]
    tiles = tuple(tiles_of(picture) for picture in pictures)
    return Prompt(tuple(_segments(turns, tokenizer, template, tiles)), tiles)


def _turns(
    messages: str | Sequence[Mapping[str, Any]], template: PromptEntry
) -> list[tuple[str, list[Part]]]:
    """(role, parts) of each turn, validated: an optional system turn, then alternating user and
    assistant turns, beginning and ending with the user."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise InputError("the prompt is empty; pass a string or a list of messages")
    turns: list[tuple[str, list[Part]]] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise InputError(f"message {number} must be a dict with role and content")
        role = _checked_role(message["role"], number, [role for role, _ in turns], template)
        turns.append((role, list(_parts(message["content"], role, number))))
    if turns[-1][0] != "user":
        raise InputError(f"message {len(turns)}: the last message must have the role 'user'")
    return turns


def _checked_role(role: Any, number: int, before: Sequence[str], template: PromptEntry) -> str:
    if not isinstance(role, str) or role not in template.roles:
        known = ", ".join(template.roles)
        raise InputError(f"message {number}: role {role!r:.100} is unknown; known: {known}")
    talk = [r for r in before if r != SYSTEM]
    due = (SYSTEM, "user") if not before else (TALK[len(talk) % 2],)
    if role not in due:
        raise InputError(
            f"message {number}: the role is {role!r}, expected {due[-1]!r}; user and assistant "
            "alternate, user first; a system message comes before all others"
        )
    return role


def _parts(content: Any, role: str, number: int) -> Iterator[Part]:
    """Text and picture parts of a content; items of a list are joined by newlines."""
    items = [content] if isinstance(content, str) else content
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise InputError(f"message {number}: content must be a string or a list of parts")
    for i, item in enumerate(items):
        if i:
            yield "\n"
        part = _part(item, number)
        if role == "user" and isinstance(part, str):
            yield from _split_marks(part)
        elif role == "assistant" and isinstance(part, _Picture):
            raise InputError(f"message {number}: only user messages may contain pictures")
        else:
            yield part


def _part(item: Any, number: int) -> Part:
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping):
        return _Picture(item)
    kind = item.get("type")
    if kind not in ("text", "image") or kind not in item:
        raise InputError(
            f"message {number}: a part must be {{'type': 'text', 'text': ...}} or "
            f"{{'type': 'image', 'image': ...}}, found {dict(item)!r:.100}"
        )
    return _Picture(item["image"]) if kind == "image" else str(item["text"])


def _split_marks(text: str) -> Iterator[Part]:
    for i, piece in enumerate(text.split(MARK)):
        if i:
            yield _MARK
        if piece:
            yield piece


def _place_images(
    turns: list[tuple[str, list[Part]]], images: Sequence[Any]
) -> list[tuple[str, list[Part]]]:
    """Replace each mark by its picture; without marks, put all pictures first in the first turn."""
    marks = sum(part is _MARK for _, parts in turns for part in parts)
    if marks not in (0, len(images)):
        raise InputError(
            f"marks {MARK} in the prompt: {marks}, pictures: {len(images)}; "
            "write one mark per picture, or none"
        )
    placed = [_Picture(image) for image in images]
    if marks == 0 and placed:
        first = next(parts for role, parts in turns if role == "user")
        first[:0] = placed
    rest = iter(placed)
    filled = [(role, [next(rest) if p is _MARK else p for p in parts]) for role, parts in turns]
    for i, (role, parts) in enumerate(filled):
        # An assistant turn may be empty: a model can stop at its first token.
        if role == "user" and not any(isinstance(p, _Picture) or p.strip() for p in parts):
            raise InputError(f"message {i + 1}: the user message is empty")
    return filled


def _segments(
    turns: list[tuple[str, list[Part]]],
    tokenizer: Tokenizer,
    template: PromptEntry,
    tiles: Sequence[Sequence[HasRole]],
) -> Iterator[Tokens | Slot]:
    ids = [tokenizer.token_id(template.bos)] if template.bos else []
    picture = 0
    for role, parts in turns:
        around = template.roles[role]
        ids.extend(tokenizer.marker_ids(around.before))
        for part in _joined(parts):
            if isinstance(part, str):
                ids.extend(tokenizer.encode(part))
                continue
            for number, tile in enumerate(tiles[picture]):
                markers = _around(template, tile.role)
                yield Tokens((*ids, *tokenizer.marker_ids(markers.before)))
                yield Slot(picture, number)
                ids = [*tokenizer.marker_ids(markers.after)]
            picture += 1
        ids.extend(tokenizer.marker_ids(around.after))
    yield Tokens((*ids, *tokenizer.marker_ids(template.roles["assistant"].before)))


def _around(template: PromptEntry, role: str) -> Around:
    if role not in template.tiles:
        raise MismatchError(
            f"manifest.json: prompt.tiles has no role {role!r:.100}, which vision.slicing uses; "
            "compile the model again"
        )
    return template.tiles[role]


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Merge adjacent texts, so that they are tokenized together."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        text = ""
        yield part
    if text:
        yield text
