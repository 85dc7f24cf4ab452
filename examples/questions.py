"""The question types and their frequencies: about one picture, about two pictures, or without one.

The numbers in the tables are training weights; the held-out set has all types equally often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import about_one
import about_two
import small_talk
from scenes import MOST_SHAPES, Scene, random_scene
from words import LANGUAGES, Asked

ONE: dict[str, tuple[float, Callable[[random.Random, Scene, str], Asked | None]]] = {
    "colour": (2.5, about_one.colour),
    "kind": (0.7, about_one.kind),
    "size": (0.8, about_one.size),
    "count": (0.6, about_one.count),
    "count colour": (1.6, about_one.count_colour),
    "count kind": (1.8, about_one.count_kind),
    "exist": (1.6, about_one.exist),
    "extreme": (1.8, about_one.extreme),
    "where": (2.5, about_one.where),
    "caption": (3.0, about_one.caption),
}

TWO: dict[str, tuple[float, Callable[[random.Random, about_two.Pair, str], Asked | None]]] = {
    "pair more": (1.0, about_two.more),
    "pair count": (1.0, about_two.count),
    "pair colour": (1.3, about_two.colour),
    "pair caption": (2.5, about_two.caption),
}

NONE: dict[str, tuple[float, Callable[[random.Random, str], Asked]]] = {
    "chat": (0.8, small_talk.chat),
    "add": (1.0, small_talk.add),
    "translate": (0.6, small_talk.translate),
}


@dataclass(frozen=True)
class Item:
    type: str
    scenes: tuple[Scene, ...]
    question: str
    answer: str


def ask(rng: random.Random, name: str, scenes: tuple[Scene, ...]) -> Asked | None:
    """One question of the named type in a random language about one, two or no scenes."""
    lang = rng.choice(LANGUAGES)
    if len(scenes) == 0:
        return NONE[name][1](rng, lang)
    if len(scenes) == 1:
        return ONE[name][1](rng, scenes[0], lang)
    return TWO[name][1](rng, (scenes[0], scenes[1]), lang)


def weights(pictures: int) -> dict[str, float]:
    table = ({name: row[0] for name, row in t.items()} for t in (NONE, ONE, TWO))
    return list(table)[pictures]


def questions(rng: random.Random, scenes: tuple[Scene, ...]) -> Iterator[Item]:
    """Endless questions about the given scenes, types drawn by their training weights."""
    table = weights(len(scenes))
    while True:
        name = rng.choices(list(table), list(table.values()))[0]
        asked = ask(rng, name, scenes)
        if asked is not None:
            yield Item(name, scenes, *asked)


def random_scenes(rng: random.Random, pictures: int, most: int) -> tuple[Scene, ...]:
    if pictures == 2:
        return about_two.random_pair(rng)
    if pictures == 0:
        return ()
    return (random_scene(rng, rng.choices(range(1, most + 1), (2, 4, 4)[:most])[0]),)


def held_out(count: int, seed: int, most: int = MOST_SHAPES) -> Iterator[Item]:
    """`count` questions, all types equally often, each about a new scene."""
    rng = random.Random(f"held out {seed}")
    names = [(name, k) for k in (1, 2, 0) for name in weights(k)]
    for number in range(count):
        name, pictures = names[number % len(names)]
        asked = None
        while asked is None:
            scenes = random_scenes(rng, pictures, most)
            asked = ask(rng, name, scenes)
        yield Item(name, scenes, *asked)
