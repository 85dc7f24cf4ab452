"""Makes damaged inputs from good ones: bits, bytes, numbers, strings and the structure of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

WORDS = (2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64)
NUMBERS = (0, -1, 1, *WORDS, 57344, 10**9, -(2**63), -(2**31), 10**400)
FLOATS = (0.5, -0.5, 1e308, -1e308, 5e-324, 1e-30, float("nan"), float("inf"))
NAMES = ("foo", "../../etc/passwd", "/", "float64", "O", "int8", "<s>", "-1", "[]", "你好")
HOSTILE = ("", "\x1b]0;x\x07", "\ud800", "\0", "a" * 5000, "\u202e", "%s%n", "{0.__class__}")
STRINGS = (*NAMES, *HOSTILE)
Mutation = Callable[[bytes, bytes, Random], bytes]


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """`data` after one to four mutations; `other` is an input of the same kind to splice with."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(MUTATIONS)(data, other, random)
    return data


def flip_bits(data: bytes, other: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 8)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    at, count = random.randrange(len(data) + 1), random.choice((1, 2, 4, 8))
    value = random.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"[", b"\n", b"\x1b"))
    return data[:at] + value * count + data[at + count :]


def truncate(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    at, begin = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
    end = min(len(other), begin + random.choice((4, 64, 4096)))
    return data[:at] + other[begin:end] + data[at + random.choice((0, end - begin)) :]


def repeat(data: bytes, other: bytes, random: Random) -> bytes:
    begin = random.randrange(len(data) + 1)
    part = data[begin : begin + random.choice((1, 3, 100))]
    return data[:begin] + part * random.choice((2, 50, 5000)) + data[begin:]


def change_number(data: bytes, other: bytes, random: Random) -> bytes:
    places = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not places:
        return data
    place = random.choice(places)
    return data[: place.start()] + str(random.choice(NUMBERS)).encode() + data[place.end() :]


def change_word(data: bytes, other: bytes, random: Random) -> bytes:
    """Replace a little-endian integer, as in the headers of binary formats."""
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(min(max(len(data) - size, 0), random.choice((16, 1 << 20))) + 1)
    value = (random.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    return data[:at] + value + data[at + size :]


def change_json(data: bytes, other: bytes, random: Random) -> bytes:
    """Change the value, the key or the structure at a random place of a JSON document.

    The document may follow a binary length, as in safetensors, which is then kept right.
    """
    begin = data.find(b"{")
    try:
        document, end = json.JSONDecoder().raw_decode(data[max(begin, 0) :].decode("latin-1"))
        text = data[max(begin, 0) :][:end].decode("utf-8", "surrogateescape")
        document = json.loads(text)
    except (ValueError, RecursionError):
        return flip_bits(data, other, random)
    try:
        changed = json.dumps(_changed(document, random), ensure_ascii=random.random() < 0.5)
    except RecursionError:  # nested twice
        changed = "[" * 5000
    body = changed.encode("utf-8", "surrogatepass")
    head = len(body).to_bytes(8, "little") if begin == 8 else data[: max(begin, 0)]
    return head + body + data[max(begin, 0) + end :]


def _changed(document: Any, random: Random) -> Any:
    places = list(_places(document))
    if not places:
        return _value(document, random)
    holder, key = random.choice(places)
    action = random.choice(("value", "value", "value", "delete", "copy", "nest", "key"))
    if action == "delete":
        del holder[key]
    elif action == "copy":
        other, name = random.choice(places)
        if _has(other, name) and _has(holder, key):
            holder[key] = json.loads(json.dumps(other[name]))
    elif action == "nest":
        for _ in range(random.choice((1, 70, 900))):
            holder[key] = [holder[key]] if random.random() < 0.9 else {"a": holder[key]}
    elif action == "key" and isinstance(holder, dict):
        holder[random.choice(STRINGS)] = holder.pop(key)
    else:
        holder[key] = _value(holder[key], random)
    return document


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            found += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return found


def _value(old: Any, random: Random) -> Any:
    """A value in place of `old`, often of the same type."""
    if random.random() < 0.7:
        if isinstance(old, bool):
            return not old
        if isinstance(old, int | float):
            near = (old + 1, old - 1, old * 2, -old, old // 2 if old else 1)
            return random.choice((*NUMBERS, *FLOATS, *near))
        if isinstance(old, str):
            return random.choice((*STRINGS, old[::-1], old + "x", old * 2, old[:1]))
        if isinstance(old, list):
            return random.choice(([], old * 2, old * 300, old[:1], old[::-1]))
    return random.choice((None, True, [], {}, [[]], 10**400, 2**62, *NUMBERS, *FLOATS, *STRINGS))


MUTATIONS: tuple[Mutation, ...] = (
    *(change_json,) * 6,
    *(change_number,) * 2,
    flip_bits,
    set_bytes,
    truncate,
    splice,
    repeat,
    change_word,
)
