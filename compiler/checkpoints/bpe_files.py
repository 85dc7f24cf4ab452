"""A tokenizer.json made of `vocab.json` and `merges.txt`, for checkpoints of the Qwen family and of
CLIP that have no tokenizer.json.

The two files do not say how text is cut into words before merging; that follows from the class in
tokenizer_config.json, or is given there as a regular expression.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handglass.errors import InputError
from handglass.runtime.system.regular_file import read_regular

from .clip_words import CLASS, clip_json
from .shards import read_json
from .tokenizer_config import CONFIG, AddedToken, added_tokens, tokenizer_config

VOCABULARY, MERGES = "vocab.json", "merges.txt"
LARGEST = 64 << 20  # bytes of merges.txt
MOST_TOKENS = 1 << 20
QWEN2_CLASSES = {"Qwen2Tokenizer", "MiniCPMVTokenizer", "MiniCPMOTokenizer"}
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_END = "<|im_end|>"
"""Llama 3 shares class names with it, but ends a turn in another way."""


def tokenizer_json(folder: Path) -> bytes | None:
    """The content of tokenizer.json; None if the folder does not have both files.

    Raises InputError for damaged files, and for a class whose words are not known.
    """
    if not has_both(folder):
        return None
    vocabulary, merges = folder / VOCABULARY, folder / MERGES
    config = tokenizer_config(folder)
    if _class_of(config) == CLASS:
        return clip_json(_ids(vocabulary), list(_pairs(merges)))
    words, added = _words(config, folder), list(added_tokens(config, folder))
    return _assemble(_ids(vocabulary), list(_pairs(merges)), words, added)


def has_both(folder: Path) -> bool:
    return (folder / VOCABULARY).is_file() and (folder / MERGES).is_file()


def _class_of(config: dict[str, Any]) -> str:
    return str(config.get("tokenizer_class", "")).removesuffix("Fast")


def _words(config: dict[str, Any], folder: Path) -> str:
    """The regular expression of words."""
    given = config.get("pretokenize_regex")
    if isinstance(given, str):
        return given
    name = _class_of(config)
    if name in QWEN2_CLASSES and config.get("eos_token") == QWEN2_END:
        return QWEN2_WORDS
    raise InputError(
        f"{folder / CONFIG}: the words of tokenizer_class {name!r:.100} are not known; "
        "add tokenizer.json to the checkpoint"
    )


def _ids(path: Path) -> dict[str, int]:
    table = read_json(path)
    if not isinstance(table, dict) or not 0 < len(table) <= MOST_TOKENS:
        raise InputError(f"{path}: expected an object of 1 to {MOST_TOKENS} tokens")
    if sorted(table.values(), key=str) != sorted(range(len(table)), key=str):
        raise InputError(f"{path}: the ids are not 0 to {len(table) - 1}")
    return table


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = read_regular(path, LARGEST).decode().split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.startswith("#version") or not line:
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise InputError(f"{path}: line {number} is {line!r:.100}, not two pieces")
        yield left, right


def _assemble(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    words: str,
    added: list[AddedToken],
) -> bytes:
    from tokenizers import AddedToken as Added
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as cuts

    try:
        tokenizer = Tokenizer(models.BPE(ids | {token.text: token.id for token in added}, merges))
        split = cuts.Split(Regex(words), "isolated")
    except Exception as error:  # the library raises its own, and plain ones
        raise InputError(f"vocab.json and merges.txt: {error}") from error
    byte_level = cuts.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = cuts.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token in added:
        entry = Added(token.text, normalized=False, special=token.is_special)
        (tokenizer.add_special_tokens if token.is_special else tokenizer.add_tokens)([entry])
    return str(tokenizer.to_str()).encode()
