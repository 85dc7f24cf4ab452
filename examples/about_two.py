"""Questions about two pictures: compare them, or ask about one of the two."""

from __future__ import annotations

import random

from scenes import Scene, Shape, random_scene
from words import Asked, colour_word, pick, sentence, there_are, with_article, yes

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
    """A picture, counted from 1, that holds one shape only."""
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


def same_colour(rng: random.Random, pair: Pair, lang: str) -> Asked | None:
    if any(len(scene.shapes) != 1 for scene in pair):
        return None
    asked = pick(
        rng,
        lang,
        ["Do both pictures have the same colour?", "Is the colour the same in both pictures?"],
        ["两张图片的颜色一样吗？", "两张图的颜色相同吗？"],
    )
    return asked, yes(lang, pair[0].shapes[0].colour == pair[1].shapes[0].colour)


def random_pair(rng: random.Random) -> Pair:
    """Half of the pairs are two lone shapes, and half of those share their colour."""
    if rng.random() < 0.5:
        return random_scene(rng, rng.randint(1, 3)), random_scene(rng, rng.randint(1, 3))
    first, second = random_scene(rng, 1), random_scene(rng, 1)
    if rng.random() < 0.5:
        while first.shapes[0].colour != second.shapes[0].colour:
            second = random_scene(rng, 1)
    return first, second
