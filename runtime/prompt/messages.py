"""Checks messages and places pictures in them: a list of turns, each of texts and pictures.

`(<image>./</image>)` in a user's text marks the position of a picture; without marks, the pictures
come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

MARK = "(<image>./</image>)"
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
TALK = (USER, ASSISTANT)


@dataclass(frozen=True)
class Clip:
    """A video that a message shows, as opposed to a picture."""

    video: Any


@dataclass(frozen=True)
class Placed:
    """A picture inside a message, as opposed to a text part."""

    picture: Any


KINDS: dict[str, Callable[[Any], str | Placed]] = {
    "text": str,
    "image": Placed,
    "video": lambda video: Placed(Clip(video)),
}
_MARK = Placed(None)  # a mark in the text, to be replaced by the next of `images`
Part = str | Placed
Turn = tuple[str, list[Part]]  # role, parts


def with_system(
    messages: str | Sequence[Mapping[str, Any]], text: str | None
) -> str | Sequence[Mapping[str, Any]]:
    """The messages after a system turn with this text, if there is one."""
    if text is None:
        return messages
    turns = [{"role": USER, "content": messages}] if isinstance(messages, str) else messages
    return [{"role": SYSTEM, "content": text}, *turns]


def read_turns(
    messages: str | Sequence[Mapping[str, Any]],
    images: Sequence[Any],
    roles: Sequence[str],
    between: str = "",
    joint: str = "\n",
) -> list[Turn]:
    """The turns of a conversation, with `images` at their places; adjacent texts are merged.

    `roles` are those that the template knows, `between` is its text after a picture that has no
    mark, `joint` its text between the items of a list. Raises InputError for malformed messages.
    """
    placed = _place_images(_turns(messages, roles, joint), images, between)
    return [(role, list(_joined(parts))) for role, parts in placed]


def _turns(
    messages: str | Sequence[Mapping[str, Any]], roles: Sequence[str], joint: str
) -> list[Turn]:
    """(role, parts) of each turn, validated: an optional system turn, then alternating user and
    assistant turns, beginning and ending with the user."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise InputError("the prompt is empty; pass a string or a list of messages")
    turns: list[Turn] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise InputError(f"message {number} must be a dict with role and content")
        role = _checked_role(message["role"], number, [role for role, _ in turns], roles)
        turns.append((role, list(_parts(message["content"], role, number, joint))))
    if turns[-1][0] != "user":
        raise InputError(f"message {len(turns)}: the last message must have the role 'user'")
    return turns


def _checked_role(role: Any, number: int, before: Sequence[str], roles: Sequence[str]) -> str:
    if not isinstance(role, str) or role not in roles:
        known = ", ".join(roles)
        raise InputError(f"message {number}: role {role!r:.100} is unknown; known: {known}")
    talk = [r for r in before if r != SYSTEM]
    due = (SYSTEM, "user") if not before else (TALK[len(talk) % 2],)
    if role not in due:
        raise InputError(
            f"message {number}: the role is {role!r}, expected {due[-1]!r}; user and assistant "
            "alternate, user first; a system message comes before all others"
        )
    return role


def _parts(content: Any, role: str, number: int, joint: str) -> Iterator[Part]:
    """Text and picture parts of a content; items of a list are joined by `joint`."""
    items = [content] if isinstance(content, str) else content
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise InputError(f"message {number}: content must be a string or a list of parts")
    for i, item in enumerate(items):
        if i:
            yield joint
        part = _part(item, number)
        if role == "user" and isinstance(part, str):
            yield from _split_marks(part)
        elif role != USER and isinstance(part, Placed):
            raise InputError(f"message {number}: only user messages may contain pictures")
        else:
            yield part


def _part(item: Any, number: int) -> Part:
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping):
        return Placed(item)
    kind = item.get("type")
    if kind not in KINDS or kind not in item:
        known = " or ".join(f"{{'type': '{k}', '{k}': ...}}" for k in KINDS)
        raise InputError(f"message {number}: a part must be {known}, found {dict(item)!r:.100}")
    return KINDS[kind](item[kind])


def _split_marks(text: str) -> Iterator[Part]:
    for i, piece in enumerate(text.split(MARK)):
        if i:
            yield _MARK
        if piece:
            yield piece


def _place_images(turns: list[Turn], images: Sequence[Any], between: str) -> list[Turn]:
    """Replace each mark by its picture; without marks, put all pictures first in the first turn."""
    marks = sum(part is _MARK for _, parts in turns for part in parts)
    if marks not in (0, len(images)):
        raise InputError(
            f"marks {MARK} in the prompt: {marks}, pictures: {len(images)}; "
            "write one mark per picture, or none"
        )
    placed = [Placed(image) for image in images]
    if marks == 0 and placed:
        first = next(parts for role, parts in turns if role == "user")
        _put_first(first, placed, between)
    rest = iter(placed)
    filled = [(role, [next(rest) if p is _MARK else p for p in parts]) for role, parts in turns]
    for i, (role, parts) in enumerate(filled):
        # An assistant turn may be empty: a model can stop at its first token.
        if role == "user" and not any(isinstance(p, Placed) or p.strip() for p in parts):
            raise InputError(f"message {i + 1}: the user message is empty")
    return filled


def _put_first(parts: list[Part], placed: Sequence[Placed], between: str) -> None:
    """Put pictures before the other parts of a turn, with `between` after each but a last one."""
    following: list[Part] = [part for picture in placed for part in (picture, between)]
    parts[:0] = following if any(parts) else following[:-1]


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
