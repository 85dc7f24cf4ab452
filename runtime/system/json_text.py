"""Parses JSON text that anyone may have written, at a cost bounded by its size.

Refused, besides what is not JSON: a repeated key, deep nesting, a number that is not finite or does
not fit 64 bits, and half of a surrogate pair. Code that reads the result needs no such checks.

A Python object takes up to 24 times the bytes of its text (`[],`), so each kind of file has a limit
of a few megabytes.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

from handglass.errors import InputError

DEPTH = 64
"""Largest depth of nested lists and objects."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer begins, which a checkout without `git lfs` has in place of the file."""
_DIGITS = 20
_MANY_DIGITS = 40


def parse_json(data: bytes, where: str, limit: int, has_large: bool = False) -> Any:
    """Parse UTF-8 text, with or without a byte-order mark; `where` names it in errors.

    With `has_large`, a number may have up to 40 digits: transformers writes 10^30 for "no limit".
    Raises InputError for more than `limit` bytes, for a Git LFS pointer and for unfit content.
    """
    if len(data) > limit:
        raise InputError(f"{where}: {len(data)} bytes or more, but the limit is {limit}")
    refuse_pointer(data, where)
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_large_integer if has_large else _integer,
        )
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from None
    _check(value, where)
    return value


def refuse_pointer(head: bytes, where: str) -> None:
    """Raise InputError if a file that begins with `head` is a Git LFS pointer."""
    if head.startswith(LFS_POINTER):
        raise InputError(
            f"{where}: is a Git LFS pointer, not the file itself; run 'git lfs pull' in its folder"
        )


def _check(value: Any, where: str) -> None:
    """Check the depth and the strings, one level of nesting after the other."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item, where)
            elif isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
        level, depth = below, depth + 1
        if depth > DEPTH and level:
            raise _too_deep(where)


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: half of a surrogate pair in {text!a:.100}") from None


def _too_deep(where: str) -> InputError:
    return InputError(f"{where}: not valid JSON: nested deeper than {DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = dict(pairs)
    if len(table) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(a for a, b in pairwise(names) if a == b)
        raise ValueError(f"the key {twice[:100]!r} occurs twice")
    return table


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"the number {text:.40} does not fit 64 bits")
    return int(text)


def _large_integer(text: str) -> int:
    return int(text) if len(text) <= _MANY_DIGITS else _integer(text)
