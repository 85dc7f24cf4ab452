"""The WordPiece tokenizers of BERT: words are cut into the longest pieces that the vocabulary has,
and a word that has none becomes the unknown token (Devlin et al. 2019, section 4.1).

What looks like a special token in a text, such as `[SEP]`, is text here and never becomes that
token.
"""

from __future__ import annotations

import json
from typing import Any

from handglass.errors import InputError

from .foreign_calls import foreign, seconds_for, within
from .patterns import check_patterns
from .vocabularies import MAX_PIECES, around

MODEL = "WordPiece"


class WordVocabulary:
    """A tokenizer.json of WordPiece. Raises InputError for a damaged one, or without an unknown
    token."""

    def __init__(self, data: bytes, where: str) -> None:
        import tokenizers

        self._where = where
        with foreign(where, "not a tokenizer.json, or a damaged one"):
            table = json.loads(data)
            check_patterns(table, where)
            self._framed = _opened(tokenizers.Tokenizer.from_buffer(data))
            added = [token for token in table.get("added_tokens") or () if not token["special"]]
            plain = json.dumps(table | {"added_tokens": added, "post_processor": None})
            self._model = _opened(tokenizers.Tokenizer.from_str(plain))
            ids: dict[str, int] = self._framed.get_vocab()
            unknown: str = table["model"]["unk_token"]
        self.size = max(ids.values(), default=-1) + 1
        if not 0 < self.size <= MAX_PIECES:
            raise InputError(f"{where}: has {self.size} pieces; must be 1 to {MAX_PIECES}")
        if unknown not in ids:
            raise InputError(f"{where}: has no token {unknown!r:.100} for words without pieces")

    def encode(self, text: str) -> list[int]:
        """Ids of the text as typed. Raises InputError for a text that takes too long."""

        def encode() -> list[int]:
            return list(self._model.encode(text, add_special_tokens=False).ids)

        with foreign(self._where, "cannot split the text"):
            return within(seconds_for(text), encode, self._where)

    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the file's own template puts before and after a text."""
        return around(self._framed, self._where)


def is_of_words(data: bytes, where: str) -> bool:
    """Whether a tokenizer.json is one of WordPiece. Raises InputError for a damaged one."""
    with foreign(where, "not a tokenizer.json, or a damaged one"):
        model: Any = json.loads(data)["model"]
        return bool(model.get("type") == MODEL)


def _opened(tokenizer: Any) -> Any:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
