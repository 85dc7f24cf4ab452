"""The entries of an encoder that follow from the small files of its checkpoint: how pictures
and texts become the arguments of `encode_image` and `encode_text`, and how their rows are compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    CANONICAL,
    PLAIN_TEXT,
    WORDS,
    EncodersEntry,
    MethodEntry,
    TextEntry,
    TokenizerEntry,
)
from handglass.runtime.prompt.texts import ids_of
from handglass.runtime.prompt.vocabularies import JsonVocabulary, SentencePieceVocabulary
from handglass.runtime.prompt.word_pieces import WordVocabulary, is_of_words

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.template_file import text_of
from ..checkpoints.tokenizer_config import CONFIG, tokenizer_config
from ..models import FamilyConfig
from ..models.family import Score

SPIECE, JSON = "spiece.model", "tokenizer.json"
LEFT_CLASSES = ("Siglip2Tokenizer", "GemmaTokenizer", "GemmaTokenizerFast")
"""Tokenizer classes that pad on the left unless told otherwise."""
LOWERING_CLASSES = ("Siglip2Tokenizer",)
END = "</s>"
"""The end token of SigLIP, which also fills texts."""
SAMPLE = "A photo of 2 cats, \u4f60\u597d"


@dataclass(frozen=True)
class Texts:
    """The tokenizer, and how it is used."""

    tokenizer: TokenizerEntry
    entry: TextEntry


def encoder_entry(score: Score, texts: Texts | None) -> EncodersEntry:
    entry = texts.entry if texts else None
    compared = score.kind, score.scale, score.bias
    return EncodersEntry(*compared, score.class_tokens, entry, score.labels)


def find_texts(checkpoint: Checkpoint, config: FamilyConfig, score: Score) -> Texts:
    """SigLIP's own SentencePiece file, or tokenizer.json.

    Raises InputError if the checkpoint has no usable tokenizer, or one of another model.
    """
    given, positions = tokenizer_config(checkpoint.folder), config.language.max_position_embeddings
    length = min(positions, score.length or _length(given, positions))
    for name, read in ((SPIECE, _of_pieces), (JSON, _of_json)):
        if (data := checkpoint.tokenizer_content(name)) is not None:
            where = str(checkpoint.folder / name)
            texts, size = read(data, where, given, length, score)
            _check(texts, data, where, size, config.language.vocab_size)
            return texts
    raise InputError(
        f"{checkpoint.folder}: no tokenizer; expected {SPIECE}, {JSON}, "
        "or vocab.json and merges.txt"
    )


def _length(given: dict[str, Any], positions: int) -> int:
    """`model_max_length` is a whole number of 31 digits where it is unlimited."""
    limit = given.get("model_max_length")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        return positions
    return min(positions, limit)


def _of_pieces(
    data: bytes, where: str, given: dict[str, Any], length: int, score: Score
) -> tuple[Texts, int]:
    vocabulary = SentencePieceVocabulary(data, where, spells_all=False)
    end = _id(vocabulary, text_of(given.get("eos_token")) or END, where)
    pad = text_of(given.get("pad_token")) or END
    padding = _id(vocabulary, pad, where) if score.pads_texts else None
    cleaning = MethodEntry(CANONICAL, {"is_lowered": given.get("do_lower_case") is not False})
    is_left = given.get("padding_side") == "left"
    entry = TextEntry(length, (), (end,), cleaning, padding, is_left)
    return Texts(TokenizerEntry("sentencepiece", SPIECE), entry), vocabulary.size


def _of_json(
    data: bytes, where: str, given: dict[str, Any], length: int, score: Score
) -> tuple[Texts, int]:
    if is_of_words(data, where):
        words = WordVocabulary(data, where)
        cleaning = MethodEntry(WORDS, {"is_lowered": score.lowers})
        entry = TextEntry(length, *words.around(), cleaning)
        return Texts(TokenizerEntry("tokenizers", JSON), entry), words.size
    vocabulary = JsonVocabulary(data, where)
    before, after = vocabulary.around()
    name, padding = str(given.get("tokenizer_class")), None
    if score.pads_texts:
        padding = _id(vocabulary, text_of(given.get("pad_token")) or "<pad>", where)
    side = given.get("padding_side") or ("left" if name in LEFT_CLASSES else "right")
    lowers = name in LOWERING_CLASSES and not _has_lowering(data)
    cleaning = MethodEntry(PLAIN_TEXT, {"is_lowered": lowers})
    entry = TextEntry(length, before, after, cleaning, padding, side == "left")
    return Texts(TokenizerEntry("tokenizers", JSON), entry), vocabulary.size


def _has_lowering(data: bytes) -> bool:
    """Whether the file lowers text itself."""
    return '"Lowercase"' in json.dumps(json.loads(data).get("normalizer"))


def _id(vocabulary: JsonVocabulary | SentencePieceVocabulary, token: str, where: str) -> int:
    found = vocabulary.find(token)
    if found is None:
        raise InputError(f"{where}: has no token {token!r:.100}, which {CONFIG} names")
    return found


def _check(texts: Texts, data: bytes, where: str, size: int, vocab_size: int) -> None:
    """Raise InputError for a tokenizer that cannot be used with the model."""
    if size > vocab_size:
        raise InputError(
            f"{where}: {size} tokens, but config.json says vocab_size {vocab_size}; the file "
            "belongs to another model"
        )
    if len(texts.entry.before) + len(texts.entry.after) >= texts.entry.length:
        raise InputError(f"{where}: no room for a text in {texts.entry.length} tokens")
    ids_of(texts.tokenizer, data, where, texts.entry)(SAMPLE)
