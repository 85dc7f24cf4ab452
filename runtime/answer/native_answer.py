"""Reads the output of `handglass-native run`: token ids, one per line, then a JSON object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from handglass.errors import InputError

from ..bundle.entries import PromptEntry
from ..prompt.chat_template import opening
from ..prompt.tokenizer import Tokenizer
from ..system.json_text import parse_json
from .answer import Answer
from .stream import TextStream
from .surfaces import Surfaces
from .thoughts import Thoughts
from .timings import Timings

MAX_LINE = 1 << 20
"""Largest last line, in bytes."""


def read_answer(lines: Iterable[str], tokenizer: Tokenizer, template: PromptEntry) -> Answer:
    """The answer as text, with the thoughts apart. Raises InputError for other lines."""
    *ids, last = [line for line in lines if line.strip()] or [""]
    try:
        tokens = tuple(int(line) for line in ids)
        summary = parse_json(last.encode("utf-8", "surrogatepass"), "the last line", MAX_LINE)
        timings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in summary["timings"].items()
        }
        reason, times = str(summary["finish_reason"]), Timings(**timings)
        thinking = bool(summary["thinking"])
    except (ValueError, TypeError, KeyError, AttributeError, InputError) as error:
        raise InputError(
            f"not the output of handglass-native run, which ends with a JSON object: {error!r:.200}"
        ) from error
    stream = TextStream((), Thoughts(template.thoughts, opening(template, thinking)))
    surface = Surfaces(tokenizer, template.thoughts)
    for token in tokens:
        stream.feed(surface(token))
    stream.finish()
    return Answer(stream.text, tokens, reason, times, thinking=stream.thoughts.text.strip())
