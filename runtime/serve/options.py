"""Options of an answer from the fields of a request, under the names of `Model.chat`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .fields import Fields
from .limits import STOP_LENGTH, STOPS
from .refusal import bad

MOST = 1 << 31
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
NO_THOUGHT = ("none", "minimal")


def read_options(fields: Fields, limits: Sequence[str]) -> dict[str, Any]:
    """`limits`: the names of the limit of tokens, of which the first that is given counts."""
    penalties = ("repetition_penalty", "repeat_penalty")
    options = {
        "temp": fields.number("temperature", 0, 100),
        "top_p": _top_p(fields),
        "top_k": _top_k(fields),
        "repeat_penalty": _first(fields.number(name, 0.01, 100) for name in penalties),
        "seed": fields.integer("seed", 0, (1 << 63) - 1),
        "max_tokens": _first(fields.integer(name, 1, MOST) for name in limits),
        "thinking": read_thinking(fields),
    }
    return {name: value for name, value in options.items() if value is not None}


def _first(values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _top_p(fields: Fields) -> float | None:
    value = fields.number("top_p", 0, 1)
    if value == 0:
        raise fields.wrong("top_p", "must be above 0; temperature 0 takes the likeliest token")
    return value


def _top_k(fields: Fields) -> int | None:
    """-1 means all, as in other servers."""
    value = fields.integer("top_k", -1, MOST)
    return 0 if value == -1 else value


def read_thinking(fields: Fields) -> bool | None:
    """Whether the model shall think first; None: as the bundle says."""
    template = fields.object("chat_template_kwargs") or Fields({})
    thinking = template.flag("enable_thinking")
    template.refuse_others()
    given = (fields.flag("enable_thinking"), thinking, read_effort(fields, "reasoning_effort"))
    found = _first(given)
    return None if found is None else bool(found)


def read_effort(fields: Fields, name: str) -> bool | None:
    effort = fields.one_of(name, EFFORTS)
    return None if effort is None else effort not in NO_THOUGHT


def read_stops(fields: Fields, name: str) -> tuple[str, ...]:
    """A string or a list of strings at which the answer ends."""
    value = fields.get(name)
    stops = [value] if isinstance(value, str) else fields.list(name)
    if len(stops) > STOPS or not all(
        isinstance(s, str) and 0 < len(s) <= STOP_LENGTH for s in stops
    ):
        raise bad(
            f"{fields.path(name)} must be at most {STOPS} strings of 1 to {STOP_LENGTH} characters",
            fields.path(name),
        )
    return tuple(stops)
