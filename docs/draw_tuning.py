"""Draws docs/tuning.svg: from the choices of a rule to a record that compile applies.

    python docs/draw_tuning.py

`tests/tuning/test_tuning_picture.py` fails if the committed picture differs from the output.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from draw_rooms import STYLE

OUTPUT = Path(__file__).parent / "tuning.svg"
WIDTH, HEIGHT, SIDE, TALL = 1040, 330, 190, 52
WORDS = {
    "rule": ("rule, with open choices", "panels: 1, 2, 4, 8", 20, 60),
    "trace": ("trace", "sample panels, note it", 290, 60),
    "candidate": ("candidate", "rule with panels = 8", 560, 60),
    "time": ("measurement", "time over the default's", 830, 60),
    "model": ("cost model", "which will be fast?", 290, 160),
    "journal": ("journal and database", "what a run resumes from", 830, 160),
    "proof": ("proof", "results, alternating times", 830, 260),
    "record": ("record", "rule, choices, times", 560, 260),
    "compile": ("compile", "the rule again", 20, 260),
}
"""By box: title, what is in it, x and y."""
COLOURS = {"rule": "#fff3d6", "compile": "#fff3d6", "record": "#e6f4ea", "proof": "#e6f4ea"}
ARROWS = (
    ("rule", "trace", "ScheduleFn"),
    ("trace", "candidate", "builder"),
    ("candidate", "time", "runner"),
    ("time", "journal", ""),
    ("journal", "model", "learns"),
    ("model", "trace", "EvolutionarySearch"),
    ("journal", "proof", "the best five"),
    ("proof", "record", "2 % faster"),
    ("record", "compile", "data, no code"),
)


def box(name: str) -> str:
    title, text, x, y = WORDS[name]
    middle, fill = x + SIDE // 2, COLOURS.get(name, "#e8f0fe")
    return (
        f'<rect x="{x}" y="{y}" width="{SIDE}" height="{TALL}" rx="5" fill="{fill}"/>'
        f'<text class="title" x="{middle}" y="{y + 21}" text-anchor="middle">{escape(title)}</text>'
        f'<text x="{middle}" y="{y + 40}" text-anchor="middle">{escape(text)}</text>'
    )


def arrow(start: str, end: str, label: str) -> str:
    """A straight arrow between the sides that face each other."""
    (_, _, x, y), (_, _, u, v) = WORDS[start], WORDS[end]
    if y == v:
        right = u > x
        a, b = (x + SIDE, y + TALL // 2) if right else (x, y + TALL // 2)
        c, d = (u - 2, b) if right else (u + SIDE + 2, b)
    else:
        down = v > y
        a, b = x + SIDE // 2, y + TALL if down else y
        c, d = u + SIDE // 2, v - 2 if down else v + TALL + 2
    x, y, anchor = (a + c) // 2, (b + d) // 2, "middle" if y == v else "start"
    x, y = (x, y - 8) if anchor == "middle" else (x + 8, y + 4)
    text = f'<text x="{x}" y="{y}" text-anchor="{anchor}">'
    path = f'<path marker-end="url(#to)" d="M{a} {b}L{c} {d}"/>'
    return path + (f"{text}{escape(label)}</text>" if label else "")


def draw() -> str:
    marker = (
        '<marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#80868b"/></marker>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
    title = '<text class="title" x="20" y="28">From a choice to a record</text>'
    style = f"<style>{STYLE}</style><defs>{marker}</defs>"
    arrows = [arrow(*given) for given in ARROWS]
    return "\n".join([head, style, title, *arrows, *map(box, WORDS), "</svg>"]) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(draw(), "utf-8")
