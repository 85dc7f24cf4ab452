"""Reads the body of /v1/responses."""

from __future__ import annotations

from typing import Any

from .answer_format import read_format
from .asked import Asked
from .fields import Fields
from .limits import TOP_LOGPROBS
from .options import read_effort, read_options
from .refusal import bad
from .turns import Part, joined, picture_part, read_content, read_role, refusal_part, text_part

HARMLESS = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
)
"""Fields that change nothing about the text of an answer. Nothing is ever stored."""
LOGPROBS = "message.output_text.logprobs"


def read_response(body: Any) -> Asked:
    """Raises Refusal for whatever this server would not follow."""
    fields = Fields(body)
    _refuse_unsupported(fields)
    options = read_options(fields, ("max_output_tokens",))
    thinking = _thinking(fields)
    if thinking is not None:
        options.setdefault("thinking", thinking)
    asked = Asked(
        model=fields.text("model") or "",
        turns=joined([*_instructions(fields), *_turns(fields)]),
        options=options,
        stream=bool(fields.flag("stream")),
        include_usage=True,
        top_logprobs=_top_logprobs(fields),
        format=_format(fields),
        user=(fields.text("user") or "")[:64],
    )
    fields.refuse_others(HARMLESS)
    return asked


def _refuse_unsupported(fields: Fields) -> None:
    fields.only("tools", [])
    fields.only("tool_choice", "none", "auto")
    fields.only("truncation", "disabled")
    fields.only("previous_response_id")
    fields.only("conversation")
    fields.only("background", False)
    fields.only("prompt")


def _instructions(fields: Fields) -> list[tuple[str, list[Part]]]:
    text = fields.text("instructions")
    return [("system", [{"type": "text", "text": text}])] if text else []


def _turns(fields: Fields) -> list[tuple[str, list[Part]]]:
    given = fields.get("input")
    if isinstance(given, str):
        return [("user", [{"type": "text", "text": given}])]
    items = fields.list("input")
    if not items:
        raise bad("input must be a string or a list of at least one item", "input")
    turns = (_turn(Fields(item, f"input[{i}]")) for i, item in enumerate(items))
    return [turn for turn in turns if turn is not None]


def _turn(fields: Fields) -> tuple[str, list[Part]] | None:
    """A message; None for the thoughts of an earlier answer, which are not repeated."""
    if fields.get("type") == "reasoning":
        return None
    fields.only("type", "message")
    role = read_role(fields)
    kinds = {"input_text": text_part, "input_image": _picture}
    if role == "assistant":
        kinds |= {"output_text": text_part, "refusal": refusal_part}
    parts = read_content(fields, "content", kinds)
    fields.refuse_others(("id", "status", "phase"))
    return role, parts


def _picture(fields: Fields) -> Part:
    fields.only("file_id")
    detail = fields.one_of("detail", ("low", "high", "auto", "original"))
    part = picture_part(fields.get("image_url"), detail, fields.path("image_url"))
    fields.refuse_others(("type",))
    return part


def _thinking(fields: Fields) -> bool | None:
    reasoning = fields.object("reasoning")
    if reasoning is None:
        return None
    effort = read_effort(reasoning, "effort")
    reasoning.refuse_others(("summary", "generate_summary"))
    return effort


def _format(fields: Fields) -> Any:
    text = fields.object("text")
    if text is None:
        return None
    text.only("verbosity", "medium")
    wanted = read_format(text, "format")
    text.refuse_others()
    return wanted


def _top_logprobs(fields: Fields) -> int | None:
    """Recorded if `include` names them."""
    top = fields.integer("top_logprobs", 0, TOP_LOGPROBS)
    included = fields.list("include")
    for name in included:
        if name != LOGPROBS:
            raise bad(f"include: {name!r:.60} is not supported; known: {LOGPROBS}", "include")
    if included:
        return top or 0
    if top:
        raise fields.wrong("top_logprobs", f"needs include = [{LOGPROBS!r}]")
    return None
