"""Turns a text into the ids of `encode_text`, for encoders.

The ids are those of the reference for every text but one: what looks like a special token, such as
`</s>`, is text here and never becomes that token.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handglass.errors import MismatchError

from ..bundle.entries import CANONICAL, PLAIN_TEXT, WORDS, TextEntry, TokenizerEntry
from .foreign_calls import without_stderr
from .tokenizer import Tokenizer, valid
from .vocabularies import JsonVocabulary, SentencePieceVocabulary
from .word_pieces import WordVocabulary

if TYPE_CHECKING:
    from ..bundle.reader import Bundle

WHERE = "manifest.json: encoders.text.cleaning"
SPACE = "\u2581"
"""What SentencePiece has in place of a space."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)

Ids = Callable[[str], list[int]]


@dataclass(frozen=True)
class Plain:
    """Parameters of the methods `plain` and `words`, for tokenizer.json, which says itself how text
    is cleaned and split."""

    is_lowered: bool


@dataclass(frozen=True)
class Canonical:
    """Parameters of the method `canonical`, for SentencePiece: ASCII punctuation is removed and
    white space is joined. The pieces are those after the unknown token, so that the first word has
    a space before it like every other."""

    is_lowered: bool


class TextInput:
    """The texts of one bundle."""

    def __init__(self, entry: TextEntry, ids: Ids) -> None:
        self.entry, self._ids = entry, ids
        self.cut = 0
        """Texts so far whose end was left out."""
        self.tokens = 0
        """Ids so far, without padding."""

    def __call__(self, text: str) -> np.ndarray:
        """The ids of a text, (s,) int32 with s <= `length`. Raises InputError for invalid
        Unicode."""
        entry = self.entry
        room = entry.length - len(entry.before) - len(entry.after)
        own = self._ids(text)
        self.cut += len(own) > room
        ids = [*entry.before, *own[:room], *entry.after]
        self.tokens += len(ids)
        if entry.padding is not None:
            fill = [entry.padding] * (entry.length - len(ids))
            ids = [*fill, *ids] if entry.is_padded_left else [*ids, *fill]
        return np.asarray(ids, np.int32)


def open_texts(bundle: Bundle) -> TextInput:
    """The texts of an encoder. Raises InputError for a damaged tokenizer, MismatchError for a
    method or a tokenizer that this version lacks."""
    encoders, tokenizer = bundle.manifest.encoders, bundle.manifest.tokenizer
    # The caller has refused other bundles.
    assert encoders is not None and encoders.text is not None and tokenizer is not None
    data, where = bundle.read(tokenizer.file), str(bundle.file(tokenizer.file))
    return TextInput(encoders.text, ids_of(tokenizer, data, where, encoders.text))


def ids_of(tokenizer: TokenizerEntry, data: bytes, where: str, entry: TextEntry) -> Ids:
    """The function from a text to its own ids."""
    kinds = {
        ("tokenizers", PLAIN_TEXT): plain,
        ("tokenizers", WORDS): words,
        ("sentencepiece", CANONICAL): canonical,
    }
    make = kinds.get((tokenizer.kind, entry.cleaning.kind))
    if make is None:
        raise MismatchError(
            f"{WHERE}: {entry.cleaning.kind!r:.100} with {tokenizer.kind} is unknown; install the "
            "handglass version that made the bundle, or compile again"
        )
    with without_stderr():
        return make(data, where, entry)


def plain(data: bytes, where: str, entry: TextEntry) -> Ids:
    tokenizer = Tokenizer(JsonVocabulary(data, where))
    is_lowered = entry.cleaning.parse(Plain, WHERE).is_lowered
    return lambda text: tokenizer.encode(lowered(text) if is_lowered else text)


def lowered(text: str) -> str:
    """Each character by itself, as the tokenizers library does it: a sigma at the end of a word
    becomes the one that it is elsewhere, which str.lower() does not do."""
    return "".join(map(str.lower, text))


def words(data: bytes, where: str, entry: TextEntry) -> Ids:
    vocabulary = WordVocabulary(data, where)
    is_lowered = entry.cleaning.parse(Plain, WHERE).is_lowered
    return lambda text: vocabulary.encode(valid(text).lower() if is_lowered else valid(text))


def canonical(data: bytes, where: str, entry: TextEntry) -> Ids:
    vocabulary = SentencePieceVocabulary(data, where, spells_all=False)
    is_lowered = entry.cleaning.parse(Canonical, WHERE).is_lowered
    first = vocabulary.unknown
    skipped = len(vocabulary.encode(first))

    def ids(text: str) -> list[int]:
        cleaned = canonical_text(f"{SPACE}{valid(text).replace(SPACE, ' ')}", is_lowered)
        return vocabulary.encode(first + cleaned)[skipped:]

    return ids


def canonical_text(text: str, is_lowered: bool) -> str:
    """Without ASCII punctuation, every white space one space, none at both ends."""
    text = (text.lower() if is_lowered else text).translate(_PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip()
