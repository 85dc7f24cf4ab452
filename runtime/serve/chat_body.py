"""Reads the body of /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from .answer_format import read_format, read_grammar
from .asked import Asked
from .fields import Fields
from .limits import TOP_LOGPROBS
from .options import read_options, read_stops
from .refusal import bad
from .turns import Part, joined, picture_part, read_content, read_role, refusal_part, text_part

HARMLESS = (
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
)
"""Fields that change nothing about the text of an answer."""
MESSAGE = ("name", "refusal", "reasoning", "reasoning_content", "annotations")
"""The same of a message."""


def read_chat(body: Any) -> Asked:
    """Raises Refusal for whatever this server would not follow."""
    fields = Fields(body)
    _refuse_unsupported(fields)
    streaming = fields.object("stream_options")
    asked = Asked(
        model=fields.text("model") or "",
        turns=joined([_turn(item, i) for i, item in enumerate(_messages(fields))]),
        options=read_options(fields, ("max_completion_tokens", "max_tokens")),
        stop=read_stops(fields, "stop"),
        stream=bool(fields.flag("stream")),
        include_usage=bool(streaming and streaming.flag("include_usage")),
        top_logprobs=_top_logprobs(fields),
        format=read_format(fields, "response_format") or read_grammar(fields, "grammar"),
        user=(fields.text("user") or "")[:64],
    )
    fields.refuse_others(HARMLESS)
    return asked


def _messages(fields: Fields) -> list[Any]:
    messages = fields.list("messages")
    if not messages:
        raise bad("messages must be a list of at least one message", "messages")
    return messages


def _refuse_unsupported(fields: Fields) -> None:
    fields.only("n", 1)
    for name in ("frequency_penalty", "presence_penalty"):
        fields.only(name, 0)
    fields.only("logit_bias", {})
    fields.only("tools", [])
    fields.only("functions", [])
    fields.only("tool_choice", "none", "auto")
    fields.only("function_call", "none", "auto")
    fields.only("modalities", ["text"])
    fields.only("audio")
    fields.only("verbosity", "medium")
    fields.only("web_search_options")


def _top_logprobs(fields: Fields) -> int | None:
    top = fields.integer("top_logprobs", 0, TOP_LOGPROBS)
    if fields.flag("logprobs"):
        return top or 0
    if top:
        raise fields.wrong("top_logprobs", "needs logprobs = true")
    return None


def _turn(item: Any, number: int) -> tuple[str, list[Part]]:
    fields = Fields(item, f"messages[{number}]")
    role = read_role(fields)
    fields.only("tool_calls", [])
    fields.only("function_call")
    fields.only("audio")
    kinds = {"text": text_part, "image_url": _picture}
    if role == "assistant":
        kinds["refusal"] = refusal_part
    parts = read_content(fields, "content", kinds)
    fields.refuse_others(MESSAGE)
    return role, parts


def _picture(fields: Fields) -> Part:
    path = fields.path("image_url")
    given = fields.get("image_url")
    fields.refuse_others(("type",))
    if isinstance(given, str):
        return picture_part(given, None, path)
    inner = Fields(given, path)
    detail = inner.one_of("detail", ("low", "high", "auto"))
    part = picture_part(inner.get("url"), detail, f"{path}.url")
    inner.refuse_others()
    return part
