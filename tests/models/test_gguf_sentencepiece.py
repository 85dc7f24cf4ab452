"""SentencePiece tokenizers of GGUF files, against the library with the original file."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import sentencepiece
from gguf_files import add_sentencepiece, finish, pieces
from published import released_file
from thinned import only
from vocabularies import sentencepiece_model

from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models.templates import minicpm
from handglass.compiler.packing.describe import find_tokenizer
from handglass.errors import InputError
from handglass.runtime.bundle.entries import TokenizerEntry
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer

FILES = ("small", "minicpm-2b.model", "minicpm-v-1.0.model")
TEXTS = [
    "What is this picture?",
    "Hello  world\n\n  x",
    "你好，这张图里有什么？ 123 45",
    "🙂👩‍👩‍👧 é e\u0301 \u200b ﬁ ½ \u3000 full-width：ＡＢＣ",
    "def f(x):\n\treturn x ** 2  # <b>bold</b> ```python```\n",
    "<image></image><slice> <unk> </s> <用户><AI> <reserved_12>",
    " leading and trailing ",
    "\u2581 a\u2581b",
    "\x00\x07\x7f \U0010ffff",
    "",
]


def original(name: str) -> bytes:
    if name == "small":
        return sentencepiece_model()
    return released_file(name).read_bytes()


def written(folder: Path, data: bytes, **changes: Any) -> Path:
    """The GGUF file of a model that has this tokenizer."""
    writer = gguf.GGUFWriter(str(folder / "a.gguf"), "llama")
    add_sentencepiece(writer, data, **changes)
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    finish(writer)
    return folder / "a.gguf"


def converted(folder: Path, data: bytes, **changes: Any) -> bytes:
    checkpoint = open_checkpoint(written(folder, data, **changes))
    assert checkpoint.tokenizer("tokenizer.json") is None
    content = checkpoint.tokenizer("tokenizer.model")
    assert isinstance(content, bytes)
    return content


def opened(folder: Path, data: bytes) -> Tokenizer:
    return parse_tokenizer("sentencepiece", converted(folder, data), folder / "a.gguf")


@pytest.mark.parametrize("name", only(["small", "minicpm-2b.model"], FILES))
def test_ids_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    data = original(name)
    library = sentencepiece.SentencePieceProcessor(model_proto=data)
    again = sentencepiece.SentencePieceProcessor(model_proto=converted(tmp_path, data))
    assert again.get_piece_size() == library.get_piece_size()
    ids = list(range(library.get_piece_size()))
    assert again.id_to_piece(ids) == library.id_to_piece(ids)
    assert again.get_score(ids) == library.get_score(ids)
    for kind in ("is_control", "is_unknown", "is_byte", "is_unused"):
        assert getattr(again, kind)(ids) == getattr(library, kind)(ids)
    for text in TEXTS:
        assert again.encode(text) == library.encode(text), text
    random = np.random.default_rng(6)
    for _ in range(200):
        text = "".join(random.choice(list("".join(TEXTS)), 60))
        assert again.encode(text) == library.encode(text), text


@pytest.mark.parametrize("name", only(["small"], FILES[:2]))
def test_our_tokenizer_is_that_of_the_file(name: str, tmp_path: Path) -> None:
    data = original(name)
    ours = opened(tmp_path, data)
    theirs = parse_tokenizer("sentencepiece", data, Path("tokenizer.model"))
    assert ours.special == theirs.special
    assert ours.vocab_size == theirs.vocab_size
    for text in TEXTS[:5]:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text.encode()


def test_a_piece_with_a_space(tmp_path: Path) -> None:
    """llama.cpp's converter writes those that were added to a vocabulary as they are typed."""
    tokens, scores, types = map(list, zip(*pieces(original("small")), strict=True))
    more = {"tokens": [*tokens, "of a"], "scores": [*scores, -1000.0], "types": [*types, 4]}
    proto = converted(tmp_path, original("small"), **more)
    library = sentencepiece.SentencePieceProcessor(model_proto=proto)
    assert library.encode("1of a2", out_type=str) == ["1", "of\u2581a", "2"]


def test_a_space_precedes_the_text_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    data = original("small")
    for given, expected in ((None, "\u2581"), (True, "\u2581"), (False, "i")):
        proto = converted(tmp_path, data, space_prefix=given)
        library = sentencepiece.SentencePieceProcessor(model_proto=proto)
        assert library.encode("is", out_type=str)[0][0] == expected


def test_the_compiler_finds_it(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(written(tmp_path, original("small")))
    entry, found = find_tokenizer(checkpoint, minicpm({}, {}), 1000)
    assert entry == TokenizerEntry("sentencepiece", "tokenizer.model")
    assert found.vocab_size == opened(tmp_path, original("small")).vocab_size


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": None}, "scores is not one float32"),
        ({"scores": [0.0, 1.0]}, "scores is not one float32"),
        ({"scores": [float("nan")]}, "NaN"),
        ({"types": [1]}, "exactly one"),
        ({"types": [2]}, "exactly one"),
        ({"types": [9]}, "must be 1 to 6"),
        ({"types": [1, 2]}, "one type per token"),
        ({"space_prefix": 1}, "add_space_prefix is 1"),
        ({"charsmap": b"abc"}, "precompiled_charsmap"),
        ({"tokens": ["a"]}, "has a token twice"),
    ],
)
def test_damaged(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A list of one item stands for that item for each token."""
    checkpoint = open_checkpoint(written(tmp_path, original("small"), **changes))
    with pytest.raises(InputError, match=r"a\.gguf") as error:
        checkpoint.tokenizer("tokenizer.model")
    assert reason in str(error.value)


def test_bytes_that_are_missing(tmp_path: Path) -> None:
    """Without byte pieces a text may be unknown; the runtime refuses such a model."""
    tokens = [f"t{i}" for i in range(300)]
    kinds = [2, *[1] * 299]
    proto = converted(tmp_path, original("small"), tokens=tokens, types=kinds, scores=[0.0] * 300)
    with pytest.raises(InputError, match="byte pieces are missing"):
        parse_tokenizer("sentencepiece", proto, tmp_path / "a.gguf")
