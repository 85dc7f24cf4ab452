"""The demo scenes: generation is reproducible, and every answer is true of its scene.

A second implementation parses the question text and checks the answer, so that it does not repeat
an error of the generator.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from questions import Item, held_out, random_scenes
from scenes import SIDE, Scene, Shape, as_seen, draw, random_picture, random_scene, write_held_out
from words import COLOURS, KINDS

ITEMS = list(held_out(510, seed=11))
CHINESE = {row[0]: name for name, row in COLOURS.items()} | {zh: en for en, zh in KINDS.items()}
PLACES = {
    "左上角": "top left",
    "右上角": "top right",
    "左下角": "bottom left",
    "右下角": "bottom right",
}
SIDES = {"最左边": "far left", "最右边": "far right", "最上面": "top", "最下面": "bottom"}


def english(text: str) -> str:
    """Replace Chinese demo words by ` english `, so that one parser handles both languages."""
    table = CHINESE | PLACES | SIDES | {"大": "big", "小": "small"}
    for word in sorted(table, key=len, reverse=True):
        text = text.replace(word, f" {table[word]} ")
    return text.lower()


def found(text: str, words: object) -> list[str]:
    pattern = "|".join(str(word) for word in words)  # type: ignore[attr-defined]
    return re.findall(pattern, english(text))


def matching(scene: Scene, text: str) -> list[Shape]:
    """The shapes with the first colour and the first kind in the text."""
    colours, kinds = found(text, COLOURS), found(text, KINDS)
    return [
        shape
        for shape in scene.shapes
        if shape.colour in (colours[:1] or [shape.colour])
        and shape.kind in (kinds[:1] or [shape.kind])
    ]


def number(text: str) -> int:
    return int(re.findall(r"\d+", text)[0])


def nouns(text: str) -> list[tuple[str, ...]]:
    """(size, colour, kind) of each shape, in the order of the text."""
    return [tuple(found(part, [*COLOURS, *KINDS, "big", "small"])) for part in split(text)]


def split(text: str) -> list[str]:
    return re.split(r", | and |、|和", text)


def check_named(item: Item) -> bool:
    """Whether the answer names the one shape that the question describes."""
    (shape,) = matching(item.scenes[0], item.question)
    return found(item.answer, COLOURS) == [shape.colour] and found(item.answer, KINDS) == [
        shape.kind
    ]


def check_size(item: Item) -> bool:
    (shape,) = matching(item.scenes[0], item.question)
    return found(item.answer, ("big", "small")) == ["big" if shape.big else "small"]


def check_count(item: Item) -> bool:
    return number(item.answer) == len(matching(item.scenes[0], item.question))


def check_exist(item: Item) -> bool:
    return (item.answer in ("Yes.", "有。")) == bool(matching(item.scenes[0], item.question))


def check_extreme(item: Item) -> bool:
    (side,) = found(item.question, ("far left", "far right", "top", "bottom"))
    places = {"far left": min, "top": min, "far right": max, "bottom": max}
    axis: Callable[[Shape], float] = (lambda s: s.x) if "far" in side else (lambda s: s.y)
    shape = places[side](item.scenes[0].shapes, key=axis)
    return nouns(item.answer) == [(shape.colour, shape.kind)]


def check_where(item: Item) -> bool:
    (shape,) = matching(item.scenes[0], item.question)
    rows, columns = ("top", "bottom"), ("left", "right")
    expected = f"{rows[shape.y > SIDE / 2]} {columns[shape.x > SIDE / 2]}"
    return found(item.answer, PLACES.values()) == [expected]


def listed(scene: Scene) -> list[tuple[str, ...]]:
    ranked = sorted(scene.shapes, key=lambda shape: shape.x)
    return [("big" if s.big else "small", s.colour, s.kind) for s in ranked]


def check_caption(item: Item) -> bool:
    return nouns(item.answer) == listed(item.scenes[0])


def asked_scene(item: Item) -> Scene:
    return item.scenes[number(item.question) - 1]


def check_pair_more(item: Item) -> bool:
    counts = [len(scene.shapes) for scene in item.scenes]
    return counts[number(item.answer) - 1] == max(counts) != min(counts)


def check_pair_count(item: Item) -> bool:
    return number(item.answer) == len(asked_scene(item).shapes)


def check_pair_colour(item: Item) -> bool:
    return found(item.answer, COLOURS) == [asked_scene(item).shapes[0].colour]


def check_pair_caption(item: Item) -> bool:
    return nouns(item.answer) == listed(asked_scene(item))


def check_add(item: Item) -> bool:
    return number(item.answer) == sum(int(digit) for digit in re.findall(r"\d", item.question))


def check_translate(item: Item) -> bool:
    return found(item.question, [*COLOURS, *KINDS]) == found(item.answer, [*COLOURS, *KINDS])


CHECKS: dict[str, Callable[[Item], bool]] = {
    "colour": check_named,
    "kind": check_named,
    "size": check_size,
    "count": check_count,
    "count colour": check_count,
    "count kind": check_count,
    "exist": check_exist,
    "extreme": check_extreme,
    "where": check_where,
    "caption": check_caption,
    "pair more": check_pair_more,
    "pair count": check_pair_count,
    "pair colour": check_pair_colour,
    "pair caption": check_pair_caption,
    "add": check_add,
    "translate": check_translate,
    "chat": lambda item: not item.scenes,
}


@pytest.mark.parametrize("name", sorted({item.type for item in ITEMS}))
def test_answers_are_true_of_the_scene(name: str) -> None:
    items = [item for item in ITEMS if item.type == name]
    assert len(items) == 30
    for item in items:
        assert CHECKS[name](item), item


def test_answers_speak_the_language_of_the_question() -> None:
    chinese = re.compile("[\u4e00-\u9fff]")
    for item in ITEMS:
        same = bool(chinese.search(item.question)) == bool(chinese.search(item.answer))
        assert same or item.type in ("translate", "add"), item


def test_yes_and_no_are_balanced() -> None:
    items = [item for item in held_out(1020, seed=5) if item.type == "exist"]
    yes = sum(item.answer in ("Yes.", "有。") for item in items)
    assert 0.35 < yes / len(items) < 0.65


def test_a_seed_decides_everything() -> None:
    assert list(held_out(40, seed=3)) == list(held_out(40, seed=3))
    assert list(held_out(40, seed=3)) != list(held_out(40, seed=4))
    scene = random_scene(random.Random(1), 3)
    first, second = (random_picture(random.Random(9), scene).tobytes() for _ in range(2))
    assert first == second


def test_shapes_stay_inside_and_apart() -> None:
    rng = random.Random(0)
    for _ in range(200):
        (scene,) = random_scenes(rng, 1, 3)
        for i, a in enumerate(scene.shapes):
            assert a.radius < min(a.x, a.y, SIDE - a.x, SIDE - a.y)
            for b in scene.shapes[:i]:
                assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > (a.radius + b.radius) ** 2


@pytest.mark.parametrize("side", [112, 224, 448])
@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_has_its_colour_where_it_should(kind: str, side: int) -> None:
    """The centre is filled, except for a ring. A pixel on the vertical axis near the top of the
    outline is filled for every shape."""
    rgb, background = (200, 30, 40), (250, 250, 240)
    scene = Scene((Shape(kind, "red", True, 40.0, 60.0, 18.0, rgb),), background)
    image = as_seen(draw(scene, side))
    centre = image.getpixel((40, 60))
    assert centre == (background if kind == "ring" else rgb)
    assert image.getpixel((40, 46)) != background
    assert image.getpixel((90, 20)) == background


def test_the_held_out_writer_writes_what_it_promises(tmp_path: Path) -> None:
    write_held_out(tmp_path / "a", 38, seed=2)
    write_held_out(tmp_path / "b", 38, seed=2)
    lines = (tmp_path / "a" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for record, item in zip(records, held_out(38, seed=2), strict=True):
        assert set(record) == {"images", "question", "answer", "type"}
        assert (record["question"], record["answer"]) == (item.question, item.answer)
        assert len(record["images"]) == len(item.scenes)
        for name in record["images"]:
            with Image.open(tmp_path / "a" / name) as picture:
                assert picture.size == (224, 224)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
