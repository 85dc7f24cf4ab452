"""Draws docs/rooms.svg: the path from checkpoint to answer, and which room imports which.

    python docs/draw_rooms.py

The rooms are those of docs/rooms.md. The arrows are the actual imports, without those implied by
others. `tests/test_imports.py` fails if the committed picture differs from the output.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "rooms.svg"
WALK = (
    "checkpoint",
    "compiler.checkpoints",
    "compiler.models",
    "compiler.lowering",
    "schedules",
    "targets",
    "compiler.packing",
    "bundle",
    "runtime.bundle",
    "runtime.engine",
    "runtime.answer",
    "answer",
)
THINGS = ("checkpoint", "bundle", "answer")
COLOURS = {
    "compiler": "#e8f0fe",
    "schedules": "#fff3d6",
    "targets": "#fde8e4",
    "runtime": "#e6f4ea",
}
BOX, GAP, ROW, LEFT, TOP = 138, 14, 74, 20, 112
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #202124 } .title { font-weight: 600 }
rect { stroke: #80868b } path { fill: none; stroke: #80868b; stroke-width: 1 }
svg { background: #ffffff }
"""


def levels(imports: Mapping[str, set[str]]) -> dict[str, int]:
    """The level of each room: 0 if it imports nothing, else one above its highest import."""
    found: dict[str, int] = {}

    def level(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((level(other) for other in imports[room]), default=-1)
        return found[room]

    for room in imports:
        level(room)
    return found


def direct(imports: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that are not implied by others (the transitive reduction)."""
    reach: dict[str, set[str]] = {}
    for room in sorted(imports, key=levels(imports).__getitem__):
        reach[room] = set().union(*(reach[other] | {other} for other in imports[room]))
    return [
        (room, other)
        for room, others in imports.items()
        for other in sorted(others)
        if not any(other in reach[between] for between in others - {other})
    ]


def short(room: str) -> str:
    return room.removeprefix("handglass.")


def colour(room: str) -> str:
    return COLOURS.get(short(room).split(".")[0], "#f1f3f4")


def box(x: float, y: float, width: float, text: str, fill: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="30" rx="5" fill="{fill}"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + 19:.0f}" text-anchor="middle">{escape(text)}</text>'
    )


def walk(width: float) -> list[str]:
    """The boxes of the path from checkpoint to answer."""
    step = (width - 2 * LEFT) / len(WALK)
    found = [f'<text class="title" x="{LEFT}" y="24">From a checkpoint to an answer</text>']
    for number, name in enumerate(WALK):
        x = LEFT + number * step
        fill = "#ffffff" if name in THINGS else colour(name)
        found.append(
            box(x, 38, step - 16, name.removeprefix("compiler.").removeprefix("runtime."), fill)
        )
        if number:
            found.append(f'<path marker-end="url(#to)" d="M{x - 15:.0f} 53H{x - 2:.0f}"/>')
    return found


def places(imports: Mapping[str, set[str]]) -> tuple[dict[str, tuple[float, float]], float, float]:
    """The position (x, y) of each room, with level 0 at the bottom; width and height."""
    level = levels(imports)
    highest = max(level.values())
    rows = [sorted(room for room in imports if level[room] == n) for n in range(highest + 1)]
    width = max(len(row) for row in rows) * (BOX + GAP) - GAP + 2 * LEFT
    found = {}
    for number, row in enumerate(rows):
        start = (width - len(row) * (BOX + GAP) + GAP) / 2
        for place, room in enumerate(row):
            found[room] = (start + place * (BOX + GAP), TOP + (highest - number) * ROW)
    return found, width, TOP + highest * ROW + 50


def draw(imports: Mapping[str, set[str]]) -> str:
    """Draw the SVG; `imports` maps each room to the rooms that its files import."""
    place, width, height = places(imports)
    width = max(width, 1120.0)
    arrows = [
        f'<path marker-end="url(#to)" d="M{x + BOX / 2:.0f} {y + 30:.0f}C{x + BOX / 2:.0f} '
        f'{y + 55:.0f} {u + BOX / 2:.0f} {v - 25:.0f} {u + BOX / 2:.0f} {v - 2:.0f}"/>'
        for (x, y), (u, v) in ((place[a], place[b]) for a, b in direct(imports))
    ]
    boxes = [box(x, y, BOX, short(room), colour(room)) for room, (x, y) in sorted(place.items())]
    marker = (
        '<marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#80868b"/></marker>'
    )
    title = f'<text class="title" x="{LEFT}" y="{TOP - 14}">Who imports whom</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">'
    style = f"<style>{STYLE}</style><defs>{marker}</defs>"
    return "\n".join([head, style, *walk(width), title, *arrows, *boxes, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from test_imports import room_imports

    OUTPUT.write_text(draw(room_imports()), "utf-8")
