"""Draws the scenes of the demo model: one to three colored shapes on a light background.

A scene is plain data in units of a 112 x 112 picture. It can be drawn at any size, because users
have pictures of any size, which are all resized to 112 x 112 pixels.

    python examples/scenes.py --pictures 3 --seed 7 -o DIR       draw scenes
    python examples/scenes.py --held-out 1000 --seed 1 -o DIR    draw a question set
    python examples/scenes.py --every-shape -o DIR               draw each shape, alone
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw
from words import COLOURS, KINDS, colour_word, kind_word, size_word

SIDE = 112  # the model's picture; all lengths below are in its pixels
MOST_SHAPES = 3
GAP = 3.0  # between shapes, and between a shape and the border
RADII = {True: (16.0, 20.0), False: (8.5, 11.5)}  # big, small
DRAWN_AT = (112, 160, 224, 336, 448)
HELD_OUT_SIDE = 224

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    kind: str
    colour: str
    big: bool
    x: float
    y: float
    radius: float
    rgb: RGB

    def noun(self, lang: str, size: bool = False) -> str:
        """`red circle` or `big red circle`."""
        words = [colour_word(self.colour, lang), kind_word(self.kind, lang)]
        if size:
            words.insert(0, size_word(self.big, lang))
        return (" " if lang == "en" else "").join(words)


@dataclass(frozen=True)
class Scene:
    shapes: tuple[Shape, ...]
    background: RGB


# --- generating a scene ---


def random_scene(rng: random.Random, count: int) -> Scene:
    """`count` shapes that do not touch. A third of the scenes use only two kinds and,
    independently, a third only two colors; otherwise almost every count would be one."""
    kinds = rng.sample(list(KINDS), 2) if rng.random() < 0.35 else list(KINDS)
    colours = rng.sample(list(COLOURS), 2) if rng.random() < 0.35 else list(COLOURS)
    while True:
        shapes: list[Shape] = []
        for _ in range(60):
            shape = _random_shape(rng, kinds, colours)
            if all(_apart(shape, other) for other in shapes):
                shapes.append(shape)
            if len(shapes) == count:
                return Scene(tuple(shapes), _random_background(rng))


def _random_shape(rng: random.Random, kinds: list[str], colours: list[str]) -> Shape:
    big = rng.random() < 0.5
    radius = rng.uniform(*RADII[big])
    x, y = (rng.uniform(radius + GAP, SIDE - radius - GAP) for _ in range(2))
    colour = rng.choice(colours)
    return Shape(rng.choice(kinds), colour, big, x, y, radius, _random_rgb(rng, colour))


def _apart(a: Shape, b: Shape) -> bool:
    return math.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius + GAP


def _random_rgb(rng: random.Random, colour: str) -> RGB:
    _, soft, plain = COLOURS[colour]
    t = rng.random()
    mixed = (s + t * (p - s) + rng.randint(-10, 10) for s, p in zip(soft, plain, strict=True))
    r, g, b = (min(max(round(value), 0), 255) for value in mixed)
    return r, g, b


def every_shape() -> dict[str, Scene]:
    """Each kind of shape in each color and size, alone in the middle, by its name."""
    scenes = {}
    for kind, colour, big in product(KINDS, COLOURS, (True, False)):
        middle, radius, plain = SIDE / 2, sum(RADII[big]) / 2, COLOURS[colour][2]
        shape = Shape(kind, colour, big, middle, middle, radius, plain)
        scenes[shape.noun("en", size=True)] = Scene((shape,), (244, 244, 240))
    return scenes


def _random_background(rng: random.Random) -> RGB:
    if rng.random() < 0.3:
        return 255, 255, 255
    return rng.randint(226, 255), rng.randint(226, 255), rng.randint(226, 255)


# --- drawing it ---


def draw(scene: Scene, width: int, height: int | None = None) -> Image.Image:
    """Draw the scene; unequal sides stretch the layout, but not the shapes."""
    height = height or width
    image = Image.new("RGB", (width, height), scene.background)
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        x, y = shape.x * width / SIDE, shape.y * height / SIDE
        _draw_shape(pen, shape.kind, x, y, shape.radius * min(width, height) / SIDE, shape.rgb)
    return image


def _draw_shape(
    pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float, rgb: RGB
) -> None:
    if kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=rgb)
    elif kind == "ring":
        pen.ellipse((x - r, y - r, x + r, y + r), outline=rgb, width=max(round(0.36 * r), 1))
    elif kind == "square":
        s = 0.86 * r
        pen.rectangle((x - s, y - s, x + s, y + s), fill=rgb)
    elif kind == "triangle":
        low = y + 0.8 * r
        pen.polygon([(x, y - r), (x - 0.95 * r, low), (x + 0.95 * r, low)], fill=rgb)
    elif kind == "star":
        pen.polygon(_star(x, y, r), fill=rgb)
    else:
        s = 0.32 * r
        pen.rectangle((x - r, y - s, x + r, y + s), fill=rgb)
        pen.rectangle((x - s, y - r, x + s, y + r), fill=rgb)


def _star(x: float, y: float, r: float) -> list[tuple[float, float]]:
    """A five-pointed star, starting at the top; the inner corners are at 0.42 of the radius."""
    corners = []
    for i in range(10):
        length, angle = (r if i % 2 == 0 else 0.42 * r), math.pi * (i / 5 - 0.5)
        corners.append((x + length * math.cos(angle), y + length * math.sin(angle)))
    return corners


def as_seen(image: Image.Image) -> Image.Image:
    """Convert a picture to the model's input: RGB, 112 x 112, bicubic."""
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def random_picture(rng: random.Random, scene: Scene) -> Image.Image:
    """The model's input for a scene drawn at a random size, one in four not quite square."""
    width = height = rng.choice(DRAWN_AT)
    if rng.random() < 0.25:
        width = round(width * rng.uniform(0.85, 1.2))
    return as_seen(draw(scene, width, height))


# --- command line ---


def write_held_out(folder: Path, count: int, seed: int) -> None:
    """Write pictures and one JSON object per question; the same seed gives the same bytes."""
    from questions import held_out

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as lines:
        for number, item in enumerate(held_out(count, seed)):
            names = [f"{number:05d}-{k}.png" for k in range(len(item.scenes))]
            for name, scene in zip(names, item.scenes, strict=True):
                draw(scene, HELD_OUT_SIDE).save(folder / name)
            record = {"images": names, "question": item.question, "answer": item.answer}
            lines.write(json.dumps(record | {"type": item.type}, ensure_ascii=False) + "\n")


def write_pictures(folder: Path, count: int, seed: int, side: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        scene = random_scene(rng, rng.randint(1, 3))
        path = folder / f"scene-{seed}-{number}.png"
        draw(scene, side).save(path)
        print(path, ", ".join(shape.noun("en", size=True) for shape in scene.shapes))


def main() -> None:
    parser = argparse.ArgumentParser(description="draw scenes, or a set of questions about them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=3, metavar="N", help="how many scenes")
    parser.add_argument("--side", type=int, default=448, help="side of the pictures in pixels")
    parser.add_argument("--held-out", type=int, metavar="N", help="N questions instead of scenes")
    parser.add_argument("--every-shape", action="store_true", help="each shape, alone")
    args = parser.parse_args()
    if args.every_shape:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, scene in every_shape().items():
            draw(scene, HELD_OUT_SIDE).save(args.output / f"{name}.png")
    elif args.held_out:
        write_held_out(args.output, args.held_out, args.seed)
    else:
        write_pictures(args.output, args.pictures, args.seed, args.side)


if __name__ == "__main__":
    main()
