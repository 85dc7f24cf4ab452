"""Translates the arguments of OpenBMB's `chat(image=, msgs=, ...)` into those of `Model.chat`.

Only names and defaults differ. Beam search is not supported: `sampling=False` decodes greedily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handglass.errors import UsageError

from .messages import SYSTEM

# OpenBMB's name -> name in Model.chat
RENAMED = {
    "max_new_tokens": "max_tokens",
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repeat_penalty",
    "max_slice_nums": "max_slices",
    "enable_thinking": "thinking",
}
SAMPLING = {"temp": 0.7, "top_p": 0.8, "top_k": 100, "repeat_penalty": 1.05}
GREEDY = {"temp": 0, "repeat_penalty": 1}
KNOWN = ("image", "msgs", "tokenizer", "context", "sampling", "system_prompt", *RENAMED)


def translate(
    messages: Any,
    images: Sequence[Any] | None,
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(messages, options) for Model.chat; `tokenizer` and `context` are ignored.

    OpenBMB's default sampling is among the options only if `defaults`, those of the bundle, have no
    temperature.

    Raises UsageError for an unknown argument or a mixture of the two interfaces.
    """
    unknown = sorted(arguments.keys() - set(KNOWN))
    if unknown:
        known = ", ".join(KNOWN)
        raise UsageError(f"chat() has no argument {unknown[0]!r}; arguments of OpenBMB: {known}")
    msgs = arguments.get("msgs")
    if msgs is None or messages is not None or images is not None:
        raise UsageError("chat() takes messages= and images=, or msgs= and image=, not both")
    sampled = {} if "temp" in defaults else SAMPLING
    options = dict(sampled if arguments.get("sampling", True) else GREEDY)
    given = {ours: arguments[theirs] for theirs, ours in RENAMED.items() if theirs in arguments}
    turns = _with_image(msgs, arguments.get("image"))
    if system := arguments.get("system_prompt"):
        turns = [{"role": SYSTEM, "content": system}, *turns]
    return turns, options | given


def _with_image(msgs: Any, image: Any) -> list[dict[str, Any]]:
    """Put `image` before the first text, joined by a newline, as the reference does."""
    if isinstance(msgs, str | bytes) or not isinstance(msgs, Sequence):
        raise UsageError(f"msgs must be a list of {{'role', 'content'}}, got {type(msgs).__name__}")
    turns = [dict(m) if isinstance(m, Mapping) else m for m in msgs]
    if image is not None and turns and isinstance(turns[0], dict) and "content" in turns[0]:
        content = turns[0]["content"]
        turns[0]["content"] = [image, *(content if isinstance(content, list) else [content])]
    return turns
