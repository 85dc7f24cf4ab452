"""The byte-level tokenizer in the metadata of a GGUF file, as a tokenizer.json.

A file lists tokens and merges, but names the rule that splits text into words, which therefore must
be one of `SPLITS`. The expressions are those of llama.cpp and of the original tokenizers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_header import Header
from .template_file import TemplateFile

PREFIX = "tokenizer.ggml."
UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 2, 3, 4, 5
NORMAL = 1
TEMPLATE = "tokenizer.chat_template"
MODELS = {"gpt2": "tokenizer.json", "llama": "tokenizer.model"}
"""tokenizer.ggml.model -> the file of the original: byte-level BPE, or SentencePiece
(gguf_sentencepiece.py)."""
# Of Llama 3; Qwen's has \p{N} for \p{N}{1,3}, and that of Qwen3.5 marks (\p{M}) beside letters.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Split:
    """How text becomes words: by an expression, or by that of GPT-2 ("")."""

    words: str = ""
    has_single_digits: bool = False
    is_composed: bool = False
    """Text is composed first (NFC)."""
    ignores_merges: bool = False
    """A word that is a token is that token."""


_GPT2, _DIGITS = Split(), Split(has_single_digits=True)
_LLAMA3 = Split(_WORDS, ignores_merges=True)
_QWEN2 = Split(_WORDS.replace(r"\p{N}{1,3}", r"\p{N}"), is_composed=True)
_QWEN35 = Split(
    _QWEN2.words.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"\s\p{L}", r"\s\p{L}\p{M}"),
    is_composed=True,
)
SPLITS: Mapping[str, Split] = {
    "gpt-2": _GPT2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "qwen35": _QWEN35,
    "deepseek-r1-qwen": _QWEN2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
}
"""tokenizer.ggml.pre -> the rule."""


def tokenizer_name(header: Header) -> str:
    """The name that the tokenizer has in the original. Raises InputError for an unknown kind."""
    kind = header.metadata.get(f"{PREFIX}model")
    if not isinstance(kind, str) or kind not in MODELS:
        raise InputError(
            f"{header.path}: {PREFIX}model is {kind!r:.100}: not supported yet; known: "
            f"{', '.join(MODELS)}"
        )
    return MODELS[kind]


def template_of(header: Header) -> TemplateFile:
    """The chat template and the strings of the begin and end tokens."""
    text = header.metadata.get(TEMPLATE, "")
    if not isinstance(text, str):
        raise InputError(f"{header.path}: {TEMPLATE} is not text")
    return TemplateFile(text, _named(header, "bos"), _named(header, "eos"))


def _named(header: Header, name: str) -> str:
    """The string of a special token; empty if the file has none."""
    number = header.metadata.get(f"{PREFIX}{name}_token_id")
    tokens = header.metadata.get(f"{PREFIX}tokens")
    known = isinstance(tokens, list) and type(number) is int and 0 <= number < len(tokens)
    return tokens[number] if known else ""  # type: ignore[index]


def tokenizer_json(header: Header) -> bytes:
    """Raises InputError for an unknown rule of words, or a damaged tokenizer."""
    pre = header.metadata.get(f"{PREFIX}pre")
    if not isinstance(pre, str) or pre not in SPLITS:
        raise InputError(
            f"{header.path}: {PREFIX}pre is {pre!r:.100}: not supported yet; known: "
            f"{', '.join(SPLITS)}"
        )
    tokens, kinds = token_texts(header), token_types(header)
    ids = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    added = [i for i, kind in enumerate(kinds) if kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    split = SPLITS[pre]
    table = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, tokens[i], kinds[i] != USER_DEFINED) for i in added],
        "normalizer": {"type": "NFC"} if split.is_composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _steps(split)},
        "post_processor": None,
        "decoder": _byte_level(True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": split.ignores_merges,
            "vocab": ids,
            "merges": _texts(header, "merges"),
        },
    }
    return json.dumps(table, ensure_ascii=False).encode()


def token_texts(header: Header) -> list[str]:
    """Raises InputError if a text occurs twice."""
    tokens = _texts(header, "tokens")
    if len(set(tokens)) != len(tokens):
        raise InputError(f"{header.path}: {PREFIX}tokens has a token twice")
    return tokens


def token_types(header: Header) -> list[int]:
    """The type of each token, normal if the file does not say."""
    count = len(_texts(header, "tokens"))
    kinds = header.metadata.get(f"{PREFIX}token_type")
    if kinds is None:
        kinds = np.full(count, NORMAL)
    if not isinstance(kinds, np.ndarray) or len(kinds) != count:
        raise InputError(f"{header.path}: {PREFIX}token_type does not have one type per token")
    return kinds.tolist()


def _texts(header: Header, key: str) -> list[str]:
    value = header.metadata.get(PREFIX + key)
    if not isinstance(value, list):
        raise InputError(f"{header.path}: {PREFIX}{key} is missing, or not a list of texts")
    return value


def _added(number: int, content: str, is_special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **flags, "special": is_special}


def _steps(split: Split) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if split.has_single_digits:
        steps.append({"type": "Digits", "individual_digits": True})
    if split.words:
        pattern = {"Regex": split.words}
        steps.append({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False})
    return [*steps, _byte_level(not split.words)]


def _byte_level(has_expression: bool) -> dict[str, Any]:
    options = {"add_prefix_space": False, "trim_offsets": True, "use_regex": has_expression}
    return {"type": "ByteLevel", **options}
