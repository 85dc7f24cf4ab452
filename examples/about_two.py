"""Questions about two pictures: which has more shapes, and what one of the two shows."""

from __future__ import annotations

import random

from scenes import Scene, Shape, random_scene
from words import Asked, colour_word, pick, sentence, there_are, with_article

Pair = tuple[Scene, Scene]


def more(rng: random.Random, pair: Pair, lang: str) -> Asked | None:
    counts = [len(scene.shapes) for scene in pair]
    if counts[0] == counts[1]:
        return None
    asked = pick(
        rng,
        lang,
        ["Which picture has more shapes?", "Which picture shows more shapes?"],
        ["哪张图片的图形更多？", "哪张图的图形多？"],
    )
    number = 1 if counts[0] > counts[1] else 2
    return asked, f"Picture {number}." if lang == "en" else f"第{number}张。"


def count(rng: random.Random, pair: Pair, lang: str) -> Asked | None:
    k = rng.randrange(2)
    asked = pick(
        rng,
        lang,
        ["How many shapes are in picture {k}?"],
        ["第{k}张图片有几个图形？", "第{k}张图有几个图形？"],
        k=str(k + 1),
    )
    return asked, there_are(len(pair[k].shapes), lang)


def _lone(rng: random.Random, pair: Pair) -> tuple[str, Shape] | None:
    """The number, from 1, of a picture with a single shape."""
    numbers = [k for k in range(2) if len(pair[k].shapes) == 1]
    if not numbers:
        return None
    k = rng.choice(numbers)
    return str(k + 1), pair[k].shapes[0]


def colour(rng: random.Random, pair: Pair, lang: str) -> Asked | None:
    lone = _lone(rng, pair)
    if lone is None:
        return None
    asked = pick(
        rng,
        lang,
        ["What colour is the shape in picture {k}?", "What color is the shape in picture {k}?"],
        ["第{k}张图片里的图形是什么颜色？", "第{k}张图的图形是什么颜色？"],
        k=lone[0],
    )
    value = colour_word(lone[1].colour, lang)
    return asked, f"It is {value}." if lang == "en" else f"它是{value}。"


def caption(rng: random.Random, pair: Pair, lang: str) -> Asked | None:
    lone = _lone(rng, pair)
    if lone is None:
        return None
    asked = pick(
        rng,
        lang,
        ["What is in picture {k}?"],
        ["第{k}张图片里有什么？", "第{k}张图有什么？"],
        k=lone[0],
    )
    return asked, sentence(with_article(lone[1].noun(lang, size=True), lang), lang)


def random_pair(rng: random.Random) -> Pair:
    """A pair of scenes. Half of the pairs have single shapes, because some questions need one."""
    most = 1 if rng.random() < 0.5 else 3
    first, second = (random_scene(rng, rng.randint(1, most)) for _ in range(2))
    return first, second
