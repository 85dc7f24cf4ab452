"""The two kinds of tokenizer files: SentencePiece models and tokenizer.json.

A damaged file is refused when it is opened. A file whose pieces cannot spell every text is refused
too: each of the 256 bytes needs a piece. Byte-level BPE may lack bytes that hardly any text has, as
that of SmolLM does; such text is then refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from handglass.errors import InputError

from .foreign_calls import foreign, seconds_for, within
from .patterns import check_patterns

_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
_BYTE_NAMES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
MAX_PIECES = 1 << 24
RARE = frozenset({*range(0x20), 0x7F, 0xC0, 0xC1, *range(0xF1, 0x100)} - set(b"\t\n\r"))
"""Control characters, and bytes that occur in no assigned character below U+E0000."""


class SentencePieceVocabulary:
    """A SentencePiece model: pieces that use U+2581 for the space, and one piece per byte, unless
    the model need not spell every text (`spells_all`)."""

    def __init__(self, data: bytes, where: str, spells_all: bool = True) -> None:
        import sentencepiece

        self._where = where
        with foreign(where, "not a SentencePiece model, or a damaged one"):
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
            self.size = self._model.get_piece_size()
            ids = list(range(self.size))
            pieces = self._model.id_to_piece(ids)  # of all, so that each is valid UTF-8
        if not self.size:
            raise InputError(f"{where}: not a SentencePiece model, or an empty one")
        self.special = frozenset(pieces[i] for i in ids if self._is_special(i))
        if spells_all:
            bytes_ = {pieces[i] for i in ids if self._model.is_byte(i)}
            _check_bytes(where, _BYTE_NAMES - bytes_, bytes_ - _BYTE_NAMES)

    @property
    def unknown(self) -> str:
        """The piece that stands for text without pieces."""
        return str(self._model.id_to_piece(self._model.unk_id()))

    def encode(self, text: str) -> list[int]:
        with foreign(self._where, "cannot split the text"):
            return list(self._model.encode(text))

    def surface(self, token: int) -> bytes:
        if self._is_special(token):
            return b""
        return _piece_bytes(self._model.id_to_piece(token), self._model.is_byte(token))

    def find(self, piece: str) -> int | None:
        with foreign(self._where, f"cannot find {piece!r}"):
            id_ = self._model.piece_to_id(piece)  # the id of the unknown token if it is missing
            return id_ if self._model.id_to_piece(id_) == piece else None

    def _is_special(self, token: int) -> bool:
        return self._model.is_control(token) or self._model.is_unknown(token)


class JsonVocabulary:
    """A tokenizer.json: byte-level BPE (Llama 3, Qwen), or Llama's pieces with byte fallback."""

    def __init__(self, data: bytes, where: str) -> None:
        import tokenizers

        self._where = where
        with foreign(where, "not a tokenizer.json, or a damaged one"):
            table = json.loads(data)
            self._byte_level = _is_byte_level(table, where)
            check_patterns(table, where)
            self._model = tokenizers.Tokenizer.from_buffer(data)
            self._model.no_padding()
            self._model.no_truncation()
            self._added = self._model.get_added_tokens_decoder()
            ids = self._model.get_vocab()
        # A normalizer could turn other bytes into those that are missing.
        self._rare = RARE if table.get("normalizer") is None else frozenset[int]()
        self._missing: frozenset[int] = frozenset()
        self.size = max(ids.values(), default=-1) + 1  # ids may have gaps
        self.special = frozenset(t.content for t in self._added.values() if t.special)
        self._check_pieces(ids)

    def encode(self, text: str) -> list[int]:
        def encode() -> list[int]:
            return list(self._model.encode(text, add_special_tokens=False).ids)

        if self._missing and not self._missing.isdisjoint(text.encode()):
            character = next(c for c in text if not self._missing.isdisjoint(c.encode()))
            raise InputError(f"the tokenizer of this model cannot spell U+{ord(character):04X}")
        with foreign(self._where, "cannot split the text"):
            return within(seconds_for(text), encode, self._where)

    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the file's own template puts before and after a text."""
        return around(self._model, self._where)

    def _check_pieces(self, ids: dict[str, int]) -> None:
        if not 0 < self.size <= MAX_PIECES:
            raise InputError(
                f"{self._where}: the largest token id is {self.size - 1}; it must be below "
                f"{MAX_PIECES}"
            )
        if self._byte_level:
            ordinary = ids.keys() - {token.content for token in self._added.values()}
            known = byte_alphabet()
            missing = known.keys() - ids.keys()
            self._missing = frozenset(known[character] for character in missing) & self._rare
            missing -= {c for c in missing if known[c] in self._missing}
            _check_bytes(self._where, missing, set("".join(ordinary)) - known.keys())
        else:
            _check_bytes(self._where, _BYTE_NAMES - ids.keys(), ())

    def surface(self, token: int) -> bytes:
        if token in self._added:
            added = self._added[token]
            return b"" if added.special else added.content.encode()
        piece = self._model.id_to_token(token) or ""
        if self._byte_level:
            return bytes(byte_alphabet()[character] for character in piece)
        return _piece_bytes(piece, _BYTE_PIECE.fullmatch(piece) is not None)

    def find(self, piece: str) -> int | None:
        with foreign(self._where, f"cannot find {piece!r}"):
            id_: int | None = self._model.token_to_id(piece)
        return id_


def around(model: Any, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the template of a tokenizer puts before and after a text. InputError if it does
    something else."""
    with foreign(where, "cannot frame a text"):
        bare, framed = (
            list(model.encode("a", add_special_tokens=framed).ids) for framed in (False, True)
        )
    for first in range(len(framed) - len(bare) + 1):
        if framed[first : first + len(bare)] == bare:
            return tuple(framed[:first]), tuple(framed[first + len(bare) :])
    raise InputError(f"{where}: its template changes the text")


def _check_bytes(where: str, missing: Collection[str], unknown: Collection[str]) -> None:
    """Raise InputError unless the pieces spell every byte and nothing but bytes."""
    if missing:
        raise InputError(
            f"{where}: {len(missing)} of 256 byte pieces are missing, such as {min(missing)!r}; "
            "some text could not be spelled"
        )
    if unknown:
        raise InputError(f"{where}: pieces contain {min(unknown)!r:.40}, which stands for no byte")


def _piece_bytes(piece: str, is_byte: bool) -> bytes:
    if is_byte:
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


def _is_byte_level(table: dict[str, Any], where: str) -> bool:
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
