"""The tokenizer.json of a BERT folder that has only `vocab.txt`: a piece on each line, whose number
is its id (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

Control characters are removed, Chinese characters become words of their own; letters are lowered
and lose their accents unless tokenizer_config.json says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.regular_file import read_regular

from .fields import Fields
from .tokenizer_config import CONFIG, tokenizer_config

VOCABULARY = "vocab.txt"
LARGEST = 64 << 20
UNKNOWN, FIRST, LAST = "[UNK]", "[CLS]", "[SEP]"
SPECIAL = ("[PAD]", UNKNOWN, FIRST, LAST, "[MASK]")
MOST_CHARACTERS = 100
"""Of a word; a longer one is unknown."""


def word_json(folder: Path) -> bytes | None:
    """The content of tokenizer.json; None if there is no vocab.txt. Raises InputError for a damaged
    one."""
    path = folder / VOCABULARY
    if not path.is_file():
        return None
    ids = _ids(path)
    for token in (UNKNOWN, FIRST, LAST):
        if token not in ids:
            raise InputError(f"{path}: has no token {token}; it is not that of BERT")
    return _assemble(ids, Fields(tokenizer_config(folder), str(folder / CONFIG)))


def _ids(path: Path) -> dict[str, int]:
    ids: dict[str, int] = {}
    for number, piece in enumerate(_pieces(path)):
        if piece in ids:
            raise InputError(f"{path}: line {number + 1} repeats {piece!r:.100}")
        ids[piece] = number
    if not ids:
        raise InputError(f"{path}: has no tokens")
    return ids


def _pieces(path: Path) -> Iterator[str]:
    try:
        lines = read_regular(path, LARGEST).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    if not lines[-1]:
        lines.pop()  # after the last line's end
    return (line.removesuffix("\r") for line in lines)


def _assemble(ids: dict[str, int], given: Fields) -> bytes:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words: Any = {"unk_token": UNKNOWN, "max_input_chars_per_word": MOST_CHARACTERS}
    tokenizer = Tokenizer(models.WordPiece(ids, **words))
    accents = given.get("strip_accents")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=given.flag("tokenize_chinese_chars", True),
        strip_accents=None if accents is None else given.flag("strip_accents", True),
        lowercase=given.flag("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}", special_tokens=[(t, ids[t]) for t in (FIRST, LAST)]
    )
    tokenizer.add_special_tokens([token for token in SPECIAL if token in ids])
    return str(tokenizer.to_str()).encode()
