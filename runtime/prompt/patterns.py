"""Refuses regular expressions of tokenizer.json whose time grows exponentially with the text.

That takes a repeated group whose content repeats as well, such as `(a+)+`, or a back reference.
Expressions of tokenizers in use have neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handglass.errors import InputError

LENGTH = 20_000
DEPTH = 64
_TOKEN = re.compile(
    r"""\\[kg][<'{]?|\\[1-9]|\\.|\[|\]|\(|\)|[*+]|\{\d*,\d*\}|\{\d+\}|.""", re.DOTALL
)
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def check_patterns(table: Any, where: str) -> None:
    """Raise InputError for a bad expression in the normalizer or the pre-tokenizer."""
    for part in ("normalizer", "pre_tokenizer"):
        for pattern in _patterns(table.get(part), 0):
            if len(pattern) > LENGTH:
                raise InputError(
                    f"{where}: {part}: a regular expression of {len(pattern)} characters; the "
                    f"limit is {LENGTH}"
                )
            if reason := _refused(pattern):
                raise InputError(
                    f"{where}: {part}: the regular expression {pattern!r:.100} {reason}; its time "
                    "may grow exponentially with the text"
                )


def _patterns(value: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH:
        raise ValueError(f"entries are nested more than {DEPTH} deep")
    if isinstance(value, dict):
        if isinstance(value.get("Regex"), str):
            yield value["Regex"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _patterns(item, depth + 1)


def _refused(pattern: str) -> str:
    """What is wrong with an expression; "" if nothing is."""
    repeats = [False]  # for each open group: whether its content repeats without bound
    closed = False  # whether the last token closed a group whose content repeats
    brackets = 0
    for token in _TOKEN.findall(pattern):
        if brackets:
            brackets += (token == "[") - (token == "]")
            closed = False
        elif token == "[":
            brackets, closed = 1, False
        elif token.startswith(("\\k", "\\g")) or re.fullmatch(r"\\[1-9]", token):
            return "refers back to a group"
        elif token == "(":
            repeats.append(False)
            closed = False
        elif token == ")" and len(repeats) > 1:
            closed = repeats.pop()
            repeats[-1] |= closed
        elif _UNBOUNDED.fullmatch(token) or _is_long(token):
            if closed:
                return "repeats a group that repeats itself"
            repeats[-1] = True
        else:
            closed = False
    return ""


def _is_long(token: str) -> bool:
    match = _REPEAT.fullmatch(token)
    return match is not None and int(match[2] or match[1]) > 4
