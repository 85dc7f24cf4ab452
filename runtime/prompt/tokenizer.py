"""Tokenizes text and maps token ids back to bytes, for SentencePiece and tokenizer.json files.

User text never becomes a special token: reserved strings such as `</image>` or `<unk>` are split
into ordinary pieces, which leaves the text unchanged. If a marker consists of ordinary pieces, as
`<AI>` of MiniCPM-2B does (three pieces), text that contains it is rejected. Special ids enter a
prompt only through `token_id` and `marker_ids`. One character does not round-trip, as in the
tokenizer libraries: U+2581, which pieces use for the space, is decoded as a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from handglass.errors import InputError

from ..bundle.reader import Bundle
from ..bundle.requirements import check_answers
from ..system.regular_file import read_regular
from .foreign_calls import foreign, without_stderr
from .vocabularies import JsonVocabulary, SentencePieceVocabulary

FILE_BYTES = 128 << 20
SAMPLE = "What is this picture?\n  12 \u00e9\u4f60\U0001f642 " + "a" * 60
"""Each tokenizer must give this text back when it is opened, except for white space."""


class Vocabulary(Protocol):
    """One kind of tokenizer file."""

    size: int
    special: frozenset[str]  # control and unknown tokens, and those marked special in the file

    def encode(self, text: str) -> list[int]:
        """Ids of the text; special strings in it may become special tokens."""

    def surface(self, token: int) -> bytes:
        """The bytes of a token; empty for special tokens."""

    def find(self, piece: str) -> int | None:
        """The id of a piece, or None."""


class Tokenizer:
    """A vocabulary that keeps `reserved` strings out of ordinary text."""

    def __init__(self, vocabulary: Vocabulary, reserved: Iterable[str] = ()) -> None:
        self._vocabulary = vocabulary
        strings = {*reserved, *vocabulary.special} - {""}
        self.reserved = tuple(sorted(strings, key=len, reverse=True))
        self.special = tuple(s for s in self.reserved if s in vocabulary.special)
        self.vocab_size = vocabulary.size

    def encode(self, text: str) -> list[int]:
        """Ids of the text exactly as typed, never a special token.

        Raises InputError for invalid Unicode or a reserved marker that cannot be split.
        """
        parts = self._spelled_out(valid(text))
        ids = [i for part in parts for i in self._vocabulary.encode(part)]
        for marker, sequence in self._forbidden:
            if _contains(ids, sequence):
                raise InputError(
                    f"the text contains {marker!r}, which this model reserves for the structure "
                    "of the conversation; rephrase the text without it"
                )
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """The exact bytes; several byte tokens may form one character."""
        return b"".join(self.surface(i) for i in ids)

    def surface(self, token: int) -> bytes:
        if token < 0:
            raise InputError(f"token id {token} is below 0")
        if token >= self.vocab_size:  # an embedding row without a token: tables are padded
            return b""
        return self._vocabulary.surface(token)

    def token_id(self, token: str) -> int:
        """The id of a token that is one piece. Raises InputError if the vocabulary lacks it."""
        id_ = self._vocabulary.find(token)
        if id_ is None:
            raise InputError(
                f"the tokenizer has no token {token!r}; check that it belongs to this model"
            )
        return id_

    def name_of(self, token: int) -> str | None:
        """The piece whose `token_id` is `token`; None if it has no spelling of its own."""
        text = self.surface(token).decode("utf-8", "replace")
        pieces = (text, *sorted(self._vocabulary.special))
        return next((p for p in pieces if p and self._vocabulary.find(p) == token), None)

    def marker_ids(self, marker: str) -> tuple[int, ...]:
        """Ids of a template marker: one piece if the vocabulary has it, otherwise several.

        The reserved strings in it that are pieces stand for these, as do special tokens; what is
        between them is encoded as text.
        """
        whole = self._vocabulary.find(marker) if marker else None
        if whole is not None:
            return (whole,)
        ids: list[int] = []
        for part in self._at_pieces.split(marker) if self._pieces else [marker]:
            id_ = self._pieces.get(part)
            ids += self._vocabulary.encode(part) if id_ is None else [id_]
        return tuple(ids)

    @cached_property
    def _pieces(self) -> dict[str, int]:
        """The reserved strings that are one piece each, longest first."""
        found = ((text, self._vocabulary.find(text)) for text in self.reserved)
        return {text: id_ for text, id_ in found if id_ is not None}

    @cached_property
    def _at_pieces(self) -> re.Pattern[str]:
        return re.compile(f"({'|'.join(map(re.escape, self._pieces))})")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """The reserved strings; where several begin, the longest."""
        return re.compile("|".join(map(re.escape, self.reserved)))

    def _spelled_out(self, text: str) -> list[str]:
        """Split the text after the first character of each reserved string; parts are encoded
        separately."""
        if not self.reserved:
            return [text]
        cuts, position = [0], 0
        while match := self._pattern.search(text, position):
            position = match.start() + 1
            cuts.append(position)
        return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]

    @cached_property
    def _forbidden(self) -> list[tuple[str, tuple[int, ...]]]:
        """Id sequences that user text must not contain; <unk> alone is allowed, for unknown
        characters."""
        markers = [(m, self.marker_ids(m)) for m in self.reserved]
        return [(m, ids) for m, ids in markers if ids and ids != (self._vocabulary.find("<unk>"),)]


def open_tokenizer(kind: str, path: Path, reserved: Iterable[str] = ()) -> Tokenizer:
    """Read a tokenizer file; `kind` is "sentencepiece" or "tokenizers". Raises InputError."""
    try:
        data = read_regular(path, FILE_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_tokenizer(kind, data, path, reserved)


def tokenizer_of(bundle: Bundle) -> Tokenizer:
    """The tokenizer of a bundle that answers questions. Raises InputError, or MismatchError for
    another hash."""
    check_answers(bundle.manifest, bundle.path)
    entry = bundle.manifest.tokenizer
    assert entry is not None  # only an encoder of pictures has none
    data, reserved = bundle.read(entry.file), bundle.manifest.prompt.reserved
    return parse_tokenizer(entry.kind, data, bundle.file(entry.file), reserved)


def parse_tokenizer(kind: str, data: bytes, path: Path, reserved: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer with the content `data`; `path` names it in errors. Raises InputError."""
    if kind not in KINDS:
        raise InputError(f"tokenizer kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    with foreign(str(path), "damaged tokenizer"), without_stderr():
        tokenizer = Tokenizer(KINDS[kind](data, str(path)), reserved)
        text = tokenizer.decode(tokenizer.encode(SAMPLE))
        if text.split() != SAMPLE.encode().split():
            raise InputError(
                f"{path}: damaged tokenizer: the text {SAMPLE[:21]!r} comes back as {text[:40]!r}"
            )
    return tokenizer


KINDS: dict[str, Callable[[bytes, str], Vocabulary]] = {
    "sentencepiece": SentencePieceVocabulary,
    "tokenizers": JsonVocabulary,
}


def valid(text: str) -> str:
    """The text. Raises InputError if it is not valid Unicode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the text is not valid Unicode: {error.reason}") from error
    return text


def _contains(ids: Sequence[int], part: Sequence[int]) -> bool:
    n = len(part)
    return any(tuple(ids[i : i + n]) == tuple(part) for i in range(len(ids) - n + 1))
