"""tokenizer.model with the names that tokenizer_config.json gives to reserved pieces.

A SentencePiece model may have spare pieces such as `<reserved_22>`. MiniCPM-V 2.0 uses two of them
for `<slice>` and `</slice>`, and only its tokenizer_config.json says so. A model is a protobuf
message whose fields of number 1 are the pieces in the order of their ids; each is a message with
the text in its field 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from handglass.errors import InputError
from handglass.runtime.system.regular_file import read_regular

from .tokenizer_config import added_tokens, tokenizer_config

LARGEST = 128 << 20
SPARE = re.compile(rb"<reserved_\d+>")
PIECE = TEXT = (1 << 3) | 2
"""Tag of field 1 with the wire type of strings and messages."""
_SIZES = {1: 8, 5: 4}
"""Bytes of a field by wire type."""
Field = tuple[int, int, int, int]
"""Tag, start of the field, start of its content, end."""


def renamed_model(path: Path) -> bytes | None:
    """The content of a tokenizer.model with its reserved pieces renamed; None if there is nothing
    to rename. Raises InputError for a damaged file."""
    config = tokenizer_config(path.parent)
    names = {token.id: token.text.encode() for token in added_tokens(config, path.parent)}
    if not names:
        return None
    try:
        data = read_regular(path, LARGEST)
        renamed = b"".join(_parts(data, names))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (IndexError, KeyError, ValueError):
        raise InputError(f"{path}: not a SentencePiece model, or a damaged one") from None
    return None if renamed == data else renamed


def _parts(data: bytes, names: Mapping[int, bytes]) -> Iterator[bytes]:
    """The top-level fields, with the spare pieces of these ids renamed."""
    id_ = -1
    for tag, start, content, end in _fields(data):
        id_ += tag == PIECE
        if tag == PIECE and id_ in names:
            piece = b"".join(_renamed(data[content:end], names[id_]))
            yield bytes((PIECE,)) + _varint(len(piece)) + piece
        else:
            yield data[start:end]


def _renamed(piece: bytes, name: bytes) -> Iterator[bytes]:
    for tag, start, content, end in _fields(piece):
        if tag == TEXT and SPARE.fullmatch(piece[content:end]):
            yield bytes((TEXT,)) + _varint(len(name)) + name
        else:
            yield piece[start:end]


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of a message. Raises IndexError, KeyError or ValueError if it is damaged."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            content, end = at, _read_varint(data, at)[1]
        elif kind == 2:
            size, content = _read_varint(data, at)
            end = content + size
        else:
            content, end = at, at + _SIZES[kind]
        if end > len(data):
            raise ValueError("a field exceeds the message")
        yield tag, start, content, end
        at = end


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, seven bits per byte, and where it ends."""
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number has more than 10 bytes")


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes((low | 128,)) + _varint(high) if high else bytes((low,))
