"""Tokenizes text and maps token ids back to bytes, for SentencePiece and tokenizer.json files.

User text never becomes a special token: reserved strings such as `</image>` or `<unk>` are split
into ordinary pieces, which leaves the text unchanged. If a marker consists of ordinary pieces, as
`<AI>` of MiniCPM-2B does (three pieces), text that contains it is rejected. Special ids enter a
prompt only through `token_id` and `marker_ids`. One character does not round-trip, as in the
tokenizer libraries: U+2581, which pieces use for the space, is decoded as a space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from handglass.errors import InputError

_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


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
        self._reserved = sorted({*reserved, *vocabulary.special} - {""}, key=len, reverse=True)
        self.vocab_size = vocabulary.size

    def encode(self, text: str) -> list[int]:
        """Ids of the text exactly as typed, never a special token.

        Raises InputError for invalid Unicode or a reserved marker that cannot be split.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"the text is not valid Unicode: {error.reason}") from error
        ids = [i for part in self._spelled_out(text) for i in self._vocabulary.encode(part)]
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
        if not 0 <= token < self.vocab_size:
            raise InputError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
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
        """Ids of a template marker: one piece if the vocabulary has it, otherwise several."""
        if not marker:
            return ()
        id_ = self._vocabulary.find(marker)
        return tuple(self._vocabulary.encode(marker)) if id_ is None else (id_,)

    def _spelled_out(self, text: str) -> list[str]:
        """Split the text after the first character of each reserved string; parts are encoded
        separately."""
        if not self._reserved:
            return [text]
        pattern = re.compile("|".join(map(re.escape, self._reserved)))
        cuts, position = [0], 0
        while match := pattern.search(text, position):
            position = match.start() + 1
            cuts.append(position)
        return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]

    @cached_property
    def _forbidden(self) -> list[tuple[str, tuple[int, ...]]]:
        """Id sequences that user text must not contain; <unk> alone is allowed, for unknown
        characters."""
        markers = [(m, self.marker_ids(m)) for m in self._reserved]
        return [(m, ids) for m, ids in markers if ids and ids != (self._vocabulary.find("<unk>"),)]


def open_tokenizer(kind: str, path: Path, reserved: Iterable[str] = ()) -> Tokenizer:
    """Read a tokenizer file; `kind` is "sentencepiece" or "tokenizers". Raises InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if kind == "sentencepiece":
        return Tokenizer(SentencePieceVocabulary(data, str(path)), reserved)
    if kind == "tokenizers":
        return Tokenizer(JsonVocabulary(data, str(path)), reserved)
    raise InputError(f"tokenizer kind {kind!r} is unknown; known: sentencepiece, tokenizers")


class SentencePieceVocabulary:
    """A SentencePiece model: pieces that use U+2581 for the space, and one piece per byte."""

    def __init__(self, data: bytes, where: str) -> None:
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError as error:
            raise InputError(f"{where}: not a SentencePiece model") from error
        self.size = self._model.get_piece_size()
        if not self.size:
            raise InputError(f"{where}: not a SentencePiece model, or an empty one")
        ids = filter(self._is_special, range(self.size))
        self.special = frozenset(self._model.id_to_piece(i) for i in ids)

    def encode(self, text: str) -> list[int]:
        return list(self._model.encode(text))

    def surface(self, token: int) -> bytes:
        if self._is_special(token):
            return b""
        return _piece_bytes(self._model.id_to_piece(token), self._model.is_byte(token))

    def find(self, piece: str) -> int | None:
        id_ = self._model.piece_to_id(piece)  # the id of the unknown token if it is missing
        return id_ if self._model.id_to_piece(id_) == piece else None

    def _is_special(self, token: int) -> bool:
        return self._model.is_control(token) or self._model.is_unknown(token)


class JsonVocabulary:
    """A tokenizer.json: byte-level BPE (Llama 3, Qwen), or Llama's pieces with byte fallback."""

    def __init__(self, data: bytes, where: str) -> None:
        import tokenizers

        try:
            self._byte_level = _is_byte_level(json.loads(data), where)
            self._model = tokenizers.Tokenizer.from_buffer(data)
        except InputError:
            raise
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"{where}: not a tokenizer.json: {error}") from error
        self._model.no_padding()
        self._model.no_truncation()
        self.size = self._model.get_vocab_size()
        self._added = self._model.get_added_tokens_decoder()
        self.special = frozenset(t.content for t in self._added.values() if t.special)

    def encode(self, text: str) -> list[int]:
        return list(self._model.encode(text, add_special_tokens=False).ids)

    def surface(self, token: int) -> bytes:
        if token in self._added:
            added = self._added[token]
            return b"" if added.special else added.content.encode()
        piece = self._model.id_to_token(token) or ""
        if self._byte_level:
            return bytes(byte_alphabet()[character] for character in piece)
        return _piece_bytes(piece, _BYTE_PIECE.fullmatch(piece) is not None)

    def find(self, piece: str) -> int | None:
        return self._model.token_to_id(piece)


def _piece_bytes(piece: str, is_byte: bool) -> bytes:
    if is_byte:
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


def _is_byte_level(table: Any, where: str) -> bool:
    """Whether pieces are byte-level, by the decoder entry. InputError for an unknown decoder."""
    decoder = table.get("decoder") or {}
    kinds = {step.get("type") for step in (decoder, *decoder.get("decoders", ()))}
    if "ByteLevel" in kinds:
        return True
    if "ByteFallback" in kinds:
        return False
    names = ", ".join(sorted(map(str, kinds)))
    raise InputError(f"{where}: decoder {names} is not supported; known: ByteLevel, ByteFallback")


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """The alphabet of byte-level BPE: a printable byte is its own character, the other bytes are
    U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _contains(ids: Sequence[int], part: Sequence[int]) -> bool:
    n = len(part)
    return any(tuple(ids[i : i + n]) == tuple(part) for i in range(len(ids) - n + 1))
