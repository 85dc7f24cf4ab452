"""Draws docs/demo.svg: the bundled pictures, questions about them, and what a bundle answers.

    python examples/demo_card.py build/demo docs/demo.svg

The answers and the footers are what the bundle says when this runs, not what it should say.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import asdict
from html import escape
from pathlib import Path

import handglass
from handglass.cli.footer import footer

PICTURES = sorted((Path(__file__).parent / "pictures").glob("*.png"))
ASKED = (
    ((0,), "What is this picture?"),
    ((1,), "How many shapes are there?"),
    ((1, 2), "Which picture has more shapes?"),
    ((2,), "这张图里有什么？"),
)
ROW, WIDTH, THUMBNAIL = 112, 920, 96


def thumbnail(path: Path, x: int, y: int) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    place = f'x="{x}" y="{y}" width="{THUMBNAIL}" height="{THUMBNAIL}"'
    return f'<image {place} href="data:image/png;base64,{data}"/>'


def text(line: str, y: int, fill: str, size: int) -> str:
    return f'<text x="232" y="{y}" fill="{fill}" font-size="{size}">{escape(line)}</text>'


def row(model: handglass.Model, number: int) -> str:
    chosen, question = ASKED[number]
    pictures = [PICTURES[i] for i in chosen]
    answer = model.chat(question, pictures)
    y = number * ROW + 8
    timings = footer(asdict(answer.timings))
    return "".join(
        [
            *(thumbnail(path, 12 + i * (THUMBNAIL + 8), y) for i, path in enumerate(pictures)),
            text(question, y + 28, "#8b949e", 15),
            text(answer.text, y + 56, "#e6edf3", 18),
            text(timings, y + 82, "#57606a", 11),
        ]
    )


def main() -> None:
    bundle, output = sys.argv[1:]
    model = handglass.load(bundle)
    rows = "".join(row(model, number) for number in range(len(ASKED)))
    height = len(ASKED) * ROW + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace">'
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#0d1117"/>'
    )
    Path(output).write_text(f"{head}{rows}</svg>\n", "utf-8")


if __name__ == "__main__":
    main()
