"""Messages -> token ids with slots for pictures, in the template of the 2.0 family.

The begin token once, then per turn: user tag, text, assistant tag, answer; no separators, the text
exactly as typed. `(<image>./</image>)` marks where a picture goes; without any mark the pictures
come first. Knows no pixels: a picture is whatever the caller passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from ..bundle.manifest import PromptEntry
from .tokenizer import Tokenizer

MARK = "(<image>./</image>)"
ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Tokens:
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """Where the features of a picture stand in for `query_num` tokens."""

    picture: int  # index into Prompt.pictures


@dataclass(frozen=True)
class Prompt:
    segments: tuple[Tokens | Slot, ...]
    pictures: tuple[Any, ...]


@dataclass(frozen=True)
class _Picture:
    """A picture inside a message, set apart from its text."""

    picture: Any


_MARK = _Picture(None)  # a mark in the text, to be given the next of `images`
Part = str | _Picture


def build_prompt(
    messages: str | Sequence[Mapping[str, Any]],
    images: Sequence[Any],
    tokenizer: Tokenizer,
    template: PromptEntry,
) -> Prompt:
    turns = _place_images(_turns(messages), images)
    pictures = [p.picture for _, parts in turns for p in parts if isinstance(p, _Picture)]
    return Prompt(tuple(_segments(turns, tokenizer, template)), tuple(pictures))


def _turns(messages: str | Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Part]]]:
    """(role, parts) of each turn, checked: user and assistant alternate, user first and last."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise InputError("the prompt is empty; give a text or a list of messages")
    turns = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise InputError(f"message {i + 1} must be a dict with role and content")
        role = message["role"]
        if role not in ROLES:
            raise InputError(f"message {i + 1}: role {role!r} is unknown; known: user, assistant")
        if role != ROLES[i % 2]:
            raise InputError(
                f"message {i + 1}: role {role!r} where {ROLES[i % 2]!r} is due; "
                "user and assistant must alternate, user first"
            )
        turns.append((role, list(_parts(message["content"], role, i + 1))))
    if len(turns) % 2 == 0:
        raise InputError("the last message must be the user's: there is nothing to answer")
    return turns


def _parts(content: Any, role: str, number: int) -> Iterator[Part]:
    """Text and pictures of a content; items of a list are joined by newlines."""
    items = [content] if isinstance(content, str) else content
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise InputError(f"message {number}: content must be a text or a list of parts")
    for i, item in enumerate(items):
        if i:
            yield "\n"
        part = _part(item, number)
        if role == "user" and isinstance(part, str):
            yield from _split_marks(part)
        elif role == "assistant" and isinstance(part, _Picture):
            raise InputError(f"message {number}: only the user can show pictures")
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
    """Give each mark its picture; without marks all pictures come first in the first turn."""
    marks = sum(part is _MARK for _, parts in turns for part in parts)
    if marks not in (0, len(images)):
        raise InputError(
            f"the prompt has {marks} picture marks {MARK} and {len(images)} pictures; "
            "give one picture per mark, or no mark at all"
        )
    placed = [_Picture(image) for image in images]
    if marks == 0:
        turns[0][1][:0] = placed
    rest = iter(placed)
    filled = [(role, [next(rest) if p is _MARK else p for p in parts]) for role, parts in turns]
    for i, (role, parts) in enumerate(filled):
        # An answer may be empty: a model can stop at once.
        if role == "user" and not any(isinstance(p, _Picture) or p.strip() for p in parts):
            raise InputError(f"message {i + 1}: the user's text is empty")
    return filled


def _segments(
    turns: list[tuple[str, list[Part]]], tokenizer: Tokenizer, template: PromptEntry
) -> Iterator[Tokens | Slot]:
    ids = [tokenizer.token_id(template.bos)] if template.bos else []
    tags = {"user": template.user, "assistant": template.assistant}
    slot = 0
    for role, parts in turns:
        ids.extend(tokenizer.marker_ids(tags[role]))
        for part in _joined(parts):
            if isinstance(part, str):
                ids.extend(tokenizer.encode(part))
                continue
            yield Tokens((*ids, tokenizer.token_id(template.image_start)))
            yield Slot(slot)
            slot += 1
            ids = [tokenizer.token_id(template.image_end)]
    yield Tokens((*ids, *tokenizer.marker_ids(template.assistant)))


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Neighbouring texts as one, so that they are tokenised as one."""
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
