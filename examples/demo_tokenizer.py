"""Trains the SentencePiece vocabulary of the demo model on its questions and answers.

The settings are those of the family: BPE with byte fallback, split digits, no dummy prefix, no
normalization.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import sentencepiece
from questions import questions, random_scenes
from words import COLOURS, CORNERS, KINDS

VOCABULARY = 660
OWN_PIECES = ["<用户>", "<AI>", "<image>", "</image>", "\n"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _apart() -> re.Pattern[str]:
    """Insert cuts around words. Chinese has no spaces: without cuts, BPE would merge a color, a
    particle and a shape into one piece, which the model could not recombine."""
    words = [row[0] for row in COLOURS.values()] + list(KINDS.values())
    words += [corner["zh"] for corner in CORNERS.values()]
    words += [
        "一个",
        "最左边",
        "最右边",
        "最上面",
        "最下面",
        "大",
        "小",
        "的",
        "和",
    ]
    return re.compile("(" + "|".join(sorted(words, key=len, reverse=True)) + ")")


def corpus(count: int = 20000) -> Iterator[str]:
    rng, apart = random.Random("tokenizer"), _apart()
    for _ in range(count):
        scenes = random_scenes(rng, rng.choices((0, 1, 2), (1, 4, 2))[0], 3)
        item = next(questions(rng, scenes))
        for text in (item.question, item.answer):
            yield from (piece for piece in apart.split(text) if piece)
    for letter in LETTERS:
        yield letter + " " + letter.upper()


def train_tokenizer(path: Path) -> None:
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=corpus(),
            model_writer=file,
            model_type="bpe",
            vocab_size=VOCABULARY,
            byte_fallback=True,
            split_digits=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            user_defined_symbols=OWN_PIECES,
            num_threads=1,
            minloglevel=1,
        )
