"""How a checkpoint of sentence-transformers makes one row of a text: modules.json, the
configuration of the pooling, and sentence_bert_config.json.

A folder without modules.json has a bare model; its rows are averaged, as that library does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handglass.errors import InputError

from .fields import Fields
from .shards import read_json

MODULES, LENGTH = "modules.json", "sentence_bert_config.json"
PROMPTS = "config_sentence_transformers.json"
MEAN, CLS = "mean", "cls"
MODES = {"pooling_mode_cls_token": CLS, "pooling_mode_mean_tokens": MEAN}
KNOWN = ("Transformer", "Pooling", "Normalize")
MAX_LENGTH = 1 << 12


@dataclass(frozen=True)
class SentenceFiles:
    """What they say."""

    pooling: str = MEAN
    """MEAN of the rows of all tokens, or the row of the first one, CLS."""
    length: int | None = None
    """The most tokens of a text."""
    lowers: bool = False
    """Whether the letters of texts are lowered before the tokenizer sees them."""


def sentence_files(folder: Path) -> SentenceFiles:
    """Raises InputError for damaged files, and for steps and modes that are not supported."""
    if is_bare(folder):
        return SentenceFiles()
    _check_prompts(folder)
    fields = _optional(folder / LENGTH)
    length = None
    if fields.get("max_seq_length") is not None:
        length = fields.integer("max_seq_length", maximum=MAX_LENGTH)
    return SentenceFiles(_pooling(folder), length, fields.flag("do_lower_case", False))


def is_bare(folder: Path) -> bool:
    """Whether nothing is said."""
    return not (folder / MODULES).is_file()


def _pooling(folder: Path) -> str:
    """The mode of the one module that pools."""
    modules = dict(_modules(folder / MODULES))
    if "Pooling" not in modules:
        raise InputError(f"{folder / MODULES}: has no module Pooling")
    path = folder / modules["Pooling"] / "config.json"
    fields = Fields(read_json(path), str(path))
    given = fields.get("pooling_mode")
    chosen = [given] if given is not None else _chosen(fields)
    if chosen not in ([MEAN], [CLS]):
        found = ", ".join(map(str, chosen)) or "none"
        raise InputError(f"{path}: pools by {found:.200}; supported: {MEAN} or {CLS}, one of them")
    return str(chosen[0])


def _chosen(fields: Fields) -> list[str]:
    """The modes that are switched on; those that are not known keep their key."""
    keys = (key for key in fields.names() if key.startswith("pooling_mode_"))
    return [MODES.get(key, key) for key in sorted(keys) if fields.flag(key, False)]


def _modules(path: Path) -> Iterator[tuple[str, str]]:
    """The kind of each module, and its folder."""
    modules = read_json(path)
    if not isinstance(modules, list) or not modules:
        raise InputError(f"{path}: expected a list of modules")
    for module in modules:
        fields = Fields(module, str(path))
        kind, place = str(fields.get("type")).rpartition(".")[2], fields.get("path") or ""
        if kind not in KNOWN:
            raise InputError(f"{path}: a module {kind!r:.100}; supported: {', '.join(KNOWN)}")
        if not isinstance(place, str) or place != Path(place).name:
            raise InputError(f"{path}: path is {place!r:.100}, not the name of a folder")
        yield kind, place


def _check_prompts(folder: Path) -> None:
    """Refuse a model that puts a text of its own before every text, or whose rows are not compared
    by their cosine."""
    fields = _optional(folder / PROMPTS)
    fields.expect("similarity_fn_name", "cosine")
    name, prompts = fields.get("default_prompt_name"), fields.get("prompts")
    if name is not None and (not isinstance(prompts, dict) or prompts.get(name) != ""):
        raise InputError(
            f"{fields.where}: default_prompt_name is {name!r:.100}, but a text before every text "
            "is not supported; set it to null, and put the text there yourself"
        )


def _optional(path: Path) -> Fields:
    value: Any = read_json(path) if path.is_file() else {}
    return Fields(value, str(path))
