"""Questions about one picture.

Each question type is a small function from a scene to a question and its answer, or to None if the
answer is ambiguous (with two red circles, "the red circle" is not unique).
"""

from __future__ import annotations

import random
from itertools import pairwise
from operator import attrgetter

from scenes import SIDE, Scene, Shape
from words import (
    COLOURS,
    CORNERS,
    KINDS,
    Asked,
    colour_word,
    kind_word,
    listed,
    pick,
    sentence,
    size_word,
    there_are,
    with_article,
)

CORNER_MARGIN = 9.0  # from both middle lines; closer shapes are in no clear corner
EXTREME_MARGIN = 9.0
ORDER_MARGIN = 8.0  # between neighbors in a caption, which lists shapes from left to right


def _unique(rng: random.Random, scene: Scene, *fields: str) -> Shape | None:
    """A shape that is unique in the given fields."""
    keys = [tuple(getattr(shape, f) for f in fields) for shape in scene.shapes]
    alone = [s for s, key in zip(scene.shapes, keys, strict=True) if keys.count(key) == 1]
    return rng.choice(alone) if alone else None


def colour(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    shape = _unique(rng, scene, "kind")
    if shape is None:
        return None
    kind, value = kind_word(shape.kind, lang), colour_word(shape.colour, lang)
    asked = pick(
        rng,
        lang,
        ["What colour is the {kind}?", "What color is the {kind}?"],
        ["{kind}是什么颜色？", "{kind}是什么颜色的？"],
        kind=kind,
    )
    return asked, f"The {kind} is {value}." if lang == "en" else f"{kind}是{value}。"


def kind(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    shape = _unique(rng, scene, "colour")
    if shape is None:
        return None
    value = colour_word(shape.colour, lang)
    asked = pick(
        rng,
        lang,
        ["What shape is {value}?", "Which shape is {value}?", "What is {value}?"],
        ["什么形状是{value}？", "哪个形状是{value}的？"],
        value=value,
    )
    return asked, sentence(with_article(shape.noun(lang), lang), lang)


def size(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    shape = _unique(rng, scene, "kind", "colour")
    if shape is None:
        return None
    asked = pick(
        rng,
        lang,
        ["Is the {noun} big or small?", "How big is the {noun}?"],
        ["{noun}是大还是小？", "{noun}有多大？"],
        noun=shape.noun(lang),
    )
    value = size_word(shape.big, lang)
    return asked, f"It is {value}." if lang == "en" else f"它是{value}的。"


def count(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    asked = pick(
        rng,
        lang,
        ["How many shapes are there?", "How many shapes do you see?", "Count the shapes."],
        ["有几个图形？", "图中有几个图形？", "一共有多少个图形？"],
    )
    return asked, there_are(len(scene.shapes), lang)


def _count_of(rng: random.Random, lang: str, what: str, plural: str, number: int) -> Asked:
    asked = pick(
        rng,
        lang,
        ["How many {plural} are there?", "How many {plural} do you see?"],
        ["有几个{what}？", "图中有几个{what}？"],
        what=what,
        plural=plural,
    )
    return asked, there_are(number, lang)


def count_colour(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    present = [shape.colour for shape in scene.shapes]
    value = rng.choice(list(COLOURS) if rng.random() < 0.15 else present)
    word = colour_word(value, lang)
    return _count_of(rng, lang, f"{word}的图形", f"{word} shapes", present.count(value))


def count_kind(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    present = [shape.kind for shape in scene.shapes]
    value = rng.choice(list(KINDS) if rng.random() < 0.15 else present)
    plural = value + ("es" if value == "cross" else "s")
    return _count_of(rng, lang, kind_word(value, lang), plural, present.count(value))


def exist(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    """Half of the answers are no; then a shape in the picture shares the color or the kind."""
    shape = rng.choice(scene.shapes)
    wanted = (shape.colour, shape.kind)
    if rng.random() < 0.5:
        other = (rng.choice(list(COLOURS)), shape.kind), (shape.colour, rng.choice(list(KINDS)))
        wanted = rng.choice(other)
    word = colour_word(wanted[0], lang), kind_word(wanted[1], lang)
    noun = " ".join(word) if lang == "en" else "".join(word)
    asked = pick(
        rng,
        lang,
        ["Is there {noun}?", "Do you see {noun}?"],
        ["有没有{noun}？", "图中有{noun}吗？"],
        noun=with_article(noun, lang),
    )
    found = any((s.colour, s.kind) == wanted for s in scene.shapes)
    return asked, {"en": ("No.", "Yes."), "zh": ("没有。", "有。")}[lang][found]


SIDES = {"far left": "最左边", "far right": "最右边", "top": "最上面", "bottom": "最下面"}


def extreme(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    side = rng.choice(list(SIDES))
    axis = "x" if side.startswith("far") else "y"
    ranked = sorted(scene.shapes, key=attrgetter(axis), reverse=side in ("far right", "bottom"))
    along = [getattr(shape, axis) for shape in ranked]
    if len(along) < 2 or abs(along[0] - along[1]) < EXTREME_MARGIN:
        return None
    english = ["What is on the {side}?"] if axis == "x" else ["What is at the {side}?"]
    asked = pick(rng, lang, english, ["{chinese}是什么？"], side=side, chinese=SIDES[side])
    return asked, sentence(with_article(ranked[0].noun(lang), lang), lang)


def where(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    shape = _unique(rng, scene, "kind", "colour")
    if shape is None or min(abs(shape.x - SIDE / 2), abs(shape.y - SIDE / 2)) < CORNER_MARGIN:
        return None
    corner = CORNERS[shape.x > SIDE / 2, shape.y > SIDE / 2][lang]
    asked = pick(
        rng,
        lang,
        ["Where is the {noun}?", "In which corner is the {noun}?"],
        ["{noun}在哪里？", "{noun}在什么位置？"],
        noun=shape.noun(lang),
    )
    return asked, f"At the {corner}." if lang == "en" else f"在{corner}。"


def _caption(shapes: tuple[Shape, ...], lang: str) -> str | None:
    ranked = sorted(shapes, key=lambda s: s.x)
    if any(b.x - a.x < ORDER_MARGIN for a, b in pairwise(ranked)):
        return None
    nouns = [with_article(shape.noun(lang, size=True), lang) for shape in ranked]
    return sentence(listed(nouns, lang), lang)


def caption(rng: random.Random, scene: Scene, lang: str) -> Asked | None:
    answer = _caption(scene.shapes, lang)
    asked = pick(
        rng,
        lang,
        ["What is this picture?", "What is in this picture?", "Describe the picture."],
        ["这是什么图片？", "图片里有什么？", "这张图里有什么？", "请描述这张图片。"],
    )
    return (asked, answer) if answer and len(scene.shapes) <= 3 else None
