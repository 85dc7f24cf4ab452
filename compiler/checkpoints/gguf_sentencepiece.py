"""The SentencePiece tokenizer in the metadata of a GGUF file, as a tokenizer.model.

A GGUF file has the pieces with their scores and types, but not the options of the model. They are
those of Llama: BPE by scores, bytes for unknown characters, no normalization. Whether a space
precedes the text is a key of its own.

tokenizer.model is a message of protocol buffers; the fields are those of SentencePiece's
`ModelProto`, and the types of pieces have the same numbers in both formats.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from handglass.errors import InputError

from .gguf_header import Header
from .gguf_tokenizer import PREFIX, UNKNOWN, token_texts, token_types

BYTE = 6
TYPES = range(1, BYTE + 1)
SPACE = "\u2581"
"""Stands for a space in a piece."""
SPACE_PREFIX = f"{PREFIX}add_space_prefix"
CHARSMAP = f"{PREFIX}precompiled_charsmap"
VARINT, BYTES, FLOAT = 0, 2, 5
"""Wire types."""
PIECES, TRAINER, NORMALIZER = 1, 2, 3
"""Fields of a model. Of a piece: 1 text, 2 score, 3 type."""
MODEL_TYPE, BPE = 3, 2
BYTE_FALLBACK, UNKNOWN_ID = 35, 40
NAME, DUMMY_PREFIX, EXTRA_SPACES, ESCAPES = 1, 3, 4, 5
"""Fields of the normalizer: a space precedes the text; repeated spaces are removed; spaces are
stored as U+2581."""


def tokenizer_model(header: Header) -> bytes:
    """Raises InputError for a damaged tokenizer."""
    if CHARSMAP in header.metadata:
        raise InputError(f"{header.path}: {CHARSMAP}: normalization of the text is not supported")
    prefix = header.metadata.get(SPACE_PREFIX, True)
    if not isinstance(prefix, bool):
        raise InputError(f"{header.path}: {SPACE_PREFIX} is {prefix!r:.100}, not true or false")
    tokens, kinds = token_texts(header), token_types(header)
    if not set(kinds) <= set(TYPES) or kinds.count(UNKNOWN) != 1:
        raise InputError(
            f"{header.path}: {PREFIX}token_type must be {TYPES[0]} to {TYPES[-1]} for each token, "
            f"and {UNKNOWN} (unknown) for exactly one"
        )
    pieces = zip(_with_spaces(tokens), _scores(header, len(tokens)), kinds, strict=True)
    trainer = _number(MODEL_TYPE, BPE) + _number(UNKNOWN_ID, kinds.index(UNKNOWN))
    trainer += _number(BYTE_FALLBACK, BYTE in kinds)
    normalizer = _field(NAME, b"identity") + _number(DUMMY_PREFIX, prefix)
    normalizer += _number(EXTRA_SPACES, False) + _number(ESCAPES, True)
    return b"".join([*_pieces(pieces), _field(TRAINER, trainer), _field(NORMALIZER, normalizer)])


def _with_spaces(tokens: list[str]) -> list[str]:
    """The pieces as text is compared with them: converters write added ones as they are typed."""
    present = set(tokens)
    written = ((text, text.replace(" ", SPACE)) for text in tokens)
    return [text if new in present else new for text, new in written]


def _scores(header: Header, count: int) -> list[float]:
    scores = header.metadata.get(f"{PREFIX}scores")
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or len(scores) != count:
        raise InputError(f"{header.path}: {PREFIX}scores is not one float32 number per token")
    if not np.isfinite(scores).all():
        raise InputError(f"{header.path}: {PREFIX}scores has NaN or infinity")
    return scores.tolist()


def _pieces(pieces: Iterator[tuple[str, float, int]]) -> Iterator[bytes]:
    for text, score, kind in pieces:
        number = _key(2, FLOAT) + struct.pack("<f", score)
        yield _field(PIECES, _field(1, text.encode()) + number + _number(3, kind))


def _field(number: int, content: bytes) -> bytes:
    return _key(number, BYTES) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _key(number, VARINT) + _varint(value)


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the highest bit says that more follow."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
