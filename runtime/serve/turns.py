"""Turns of a conversation from the messages of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .asked import ShownPicture
from .fields import Fields
from .refusal import bad

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
Part = dict[str, Any]
ReadPart = Callable[[Fields], Part]


def text_part(fields: Fields) -> Part:
    text = fields.text("text")
    fields.refuse_others(("type", "annotations", "logprobs", "prompt_cache_breakpoint"))
    if text is None:
        raise bad(f"{fields.path('text')} is missing", fields.path("text"))
    return {"type": "text", "text": text}


def refusal_part(fields: Fields) -> Part:
    return {"type": "text", "text": fields.text("refusal") or ""}


def picture_part(url: Any, detail: str | None, param: str) -> Part:
    if not isinstance(url, str) or not url:
        raise bad(f"{param} must be a URL", param)
    return {"type": "image", "image": ShownPicture(url, param, detail == "low")}


def read_content(fields: Fields, name: str, kinds: Mapping[str, ReadPart]) -> list[Part]:
    """The parts of a content, which is a string or a list of objects with a type."""
    content = fields.get(name)
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [
        _part(item, f"{fields.path(name)}[{i}]", kinds) for i, item in enumerate(fields.list(name))
    ]


def _part(item: Any, where: str, kinds: Mapping[str, ReadPart]) -> Part:
    fields = Fields(item, where)
    kind = fields.text("type") or ""
    if kind not in kinds:
        known = ", ".join(kinds)
        raise bad(f"{where}: a part of type {kind!r:.60}; this server takes {known}", where)
    return kinds[kind](fields)


def read_role(fields: Fields) -> str:
    role = fields.text("role")
    if role not in ROLES:
        known = ", ".join(ROLES)
        path = fields.path("role")
        raise bad(f"{path} = {role!r:.60}: this server takes {known}", path, "unsupported_value")
    return ROLES[role]


def joined(turns: list[tuple[str, list[Part]]]) -> list[dict[str, Any]]:
    """Messages of `Model.chat`; neighbours of the same role become one."""
    messages: list[dict[str, Any]] = []
    for role, parts in turns:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += parts
        else:
            messages.append({"role": role, "content": list(parts)})
    return messages
