"""tokenizer_config.json: tokens that it adds to a vocabulary, and what other modules read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handglass.errors import InputError

from .shards import read_json

CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class AddedToken:
    id: int
    text: str
    is_special: bool


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """The whole file; empty if there is none. Raises InputError for a damaged one.

    transformers writes an unlimited `model_max_length` as a whole number of 31 digits.
    """
    path = folder / CONFIG
    config = read_json(path, has_large=True) if path.is_file() else {}
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected an object")
    return config


def added_tokens(config: dict[str, Any], folder: Path) -> Iterator[AddedToken]:
    """The added tokens in the order of their ids. Raises InputError for a malformed entry."""
    table = config.get("added_tokens_decoder") or {}
    where = f"{folder / CONFIG}: added_tokens_decoder"
    if not isinstance(table, dict) or not all(key.isdecimal() for key in table):
        raise InputError(f"{where}: expected an object whose keys are ids")
    for key in sorted(table, key=int):
        token = table[key]
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise InputError(f"{where}: {key} has no content")
        yield AddedToken(int(key), token["content"], token.get("special") is True)
