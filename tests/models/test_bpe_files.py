"""tokenizer.json made of vocab.json and merges.txt, against transformers' own tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published import released_file
from tokenizers import Tokenizer
from vocabularies import newline_words_json

from handglass.compiler.checkpoints.bpe_files import tokenizer_json
from handglass.errors import InputError

TEXTS = [
    "What is this picture?",
    "这张图里有什么？你好，世界",
    "👩🏽‍🚀🙂 emoji",
    "def f(x):\n    return x**2  # code\n\n\tif True:",
    "   leading\n\n\n and 12345 3.14",
    "\u00e9 and e\u0301, naïve",
    "Привет 日本語 한국어",
]
SPECIAL = ("<|im_start|>", "<|im_end|>")
CONFIG = {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|im_end|>"}


def test_published_tokenizer() -> None:
    from transformers import Qwen2Tokenizer

    published = released_file("o-4.5/vocab.json").parent
    data = tokenizer_json(published)
    assert data is not None
    ours = Tokenizer.from_str(data.decode())
    lines = (published / "merges.txt").read_text("utf-8").split("\n")
    merges: Any = [tuple(line.split(" ")) for line in lines if line and line[0] != "#"]
    theirs = Qwen2Tokenizer(
        vocab=json.loads((published / "vocab.json").read_text("utf-8")),
        merges=merges,
    )
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False)["input_ids"], text
    config = json.loads((published / "tokenizer_config.json").read_text("utf-8"))
    for key, token in config["added_tokens_decoder"].items():
        assert ours.encode(f"a{token['content']}b").ids[1] == int(key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = json.loads(newline_words_json(SPECIAL))
    merges = [" ".join(pair) for pair in table["model"]["merges"]]
    added = {str(t["id"]): t for t in table["added_tokens"]}
    write(tmp_path, "vocab.json", table["model"]["vocab"])
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    write(tmp_path, "tokenizer_config.json", CONFIG | {"added_tokens_decoder": added})
    return tmp_path


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), "utf-8")


def test_the_same_ids_as_its_tokenizer_json(folder: Path) -> None:
    data = tokenizer_json(folder)
    assert data is not None
    ours, original = Tokenizer.from_str(data.decode()), newline_words_json(SPECIAL)
    theirs = Tokenizer.from_str(original.decode())
    for text in [*TEXTS, "<|im_start|>user\nHi<|im_end|>"]:
        plain = text.replace("e\u0301", "").replace("12345", "")  # other words, normalized here
        assert ours.encode(plain).ids == theirs.encode(plain).ids


def test_none_without_both_files(folder: Path) -> None:
    (folder / "merges.txt").unlink()
    assert tokenizer_json(folder) is None


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "class": (
        lambda f: write(f, "tokenizer_config.json", CONFIG | {"tokenizer_class": "X"}),
        "'X'",
    ),
    "llama": (
        lambda f: write(f, "tokenizer_config.json", CONFIG | {"eos_token": "<|eot_id|>"}),
        "Qwen2Tokenizer",
    ),
    "config": (lambda f: write(f, "tokenizer_config.json", [1]), "tokenizer_config.json"),
    "added": (
        lambda f: write(f, "tokenizer_config.json", CONFIG | {"added_tokens_decoder": {"x": 1}}),
        "added_tokens_decoder",
    ),
    "ids": (lambda f: write(f, "vocab.json", {"a": 0, "b": 5}), "ids"),
    "list": (lambda f: write(f, "vocab.json", [1]), "vocab.json"),
    "line": (lambda f: (f / "merges.txt").write_text("a b c\n"), "line 1"),
    "piece": (lambda f: (f / "merges.txt").write_text("zzz qqq\n"), "merges.txt"),
    "bytes": (lambda f: (f / "merges.txt").write_bytes(b"\xff\xfe"), "merges.txt"),
    "words": (
        lambda f: write(f, "tokenizer_config.json", CONFIG | {"pretokenize_regex": "("}),
        "merges.txt",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files(folder: Path, case: str) -> None:
    damage, named = DAMAGE[case]
    damage(folder)
    with pytest.raises(InputError, match=named):
        tokenizer_json(folder)
