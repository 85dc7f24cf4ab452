"""One drawing of the documentation: boxes, arrows, bars and words.

Colours are those of the report (runtime/pages/colours.css), light or dark as the reader's system.
A text that does not fit its box is an error, so that nothing overlaps when a table grows.
"""

from __future__ import annotations

import math

from handglass.runtime.pages.svg import FONT, element, path, standalone, text

NARROW, WIDE = set("ijlt.,:;'|!()[]{}/-` "), set("mwMW@%")
SIZE, NOTE, HEADING = 12.0, 12.0, 17.0
LINE = 17.0
"""From one line of text to the next."""
PAD = 12.0
TONES = {
    "plain": "fill:var(--card);stroke:var(--rule)",
    "blue": "fill:var(--phase0);fill-opacity:.13;stroke:var(--phase0)",
    "orange": "fill:var(--phase1);fill-opacity:.13;stroke:var(--phase1)",
    "green": "fill:var(--phase2);fill-opacity:.13;stroke:var(--phase2)",
    "dashed": "fill:none;stroke:var(--faint);stroke-dasharray:4 3",
}
FILLS = {"blue": "phase0", "orange": "phase1", "green": "phase2", "grey": "faint"}


def measure(words: str, size: float = SIZE, bold: bool = False) -> float:
    """About the width of a text, rather too wide: nobody knows the reader's font."""
    units = sum(
        0.34 if c in NARROW else 0.92 if c in WIDE else 1.05 if ord(c) > 0x2E80
        else 0.68 if c.isupper() else 0.57
        for c in words
    )  # fmt: skip
    return units * size * (1.06 if bold else 1.0)


def wrapped(words: str, width: float, size: float = NOTE) -> list[str]:
    """Lines of at most this width."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if measure(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Sheet:
    """A picture `width` wide; its height is that of what was drawn."""

    def __init__(self, title: str, width: float, note: str = "") -> None:
        self._parts: list[str] = []
        self.width, self._title = width, title
        self.bottom = 0.0
        self.words(20, 32, title, "heading", size=HEADING)
        for number, line in enumerate(wrapped(note, width - 40) if note else ()):
            self.words(20, 54 + LINE * number, line, "note")

    @property
    def below(self) -> float:
        """Where to go on, below everything so far."""
        return self.bottom + 22

    def words(
        self,
        x: float,
        y: float,
        words: str,
        class_: str = "key",
        anchor: str | None = None,
        size: float = SIZE,
    ) -> None:
        """One line of text; `y` is its base line. Raises ValueError if it leaves the sheet."""
        taken = measure(words, size, class_ in ("heading", "title", "limit"))
        left = x - {"end": taken, "middle": taken / 2}.get(anchor or "", 0.0)
        if left < 0 or left + taken > self.width:
            raise ValueError(f"{words!r} does not fit the sheet")
        self._parts.append(text(x, y, words, class_=class_, text_anchor=anchor))
        self._reach(y + 4)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        title: str,
        *lines: str,
        tone: str = "plain",
        height: float | None = None,
        centred: bool = False,
    ) -> float:
        """A box with a title and lines below it; returns its bottom."""
        for line in (title, *lines):
            if measure(line, bold=line is title) > width - 16:
                raise ValueError(f"{line!r} does not fit a box of {width}")
        tall = height or PAD * 2 + LINE * (len(lines) + 1) - 7
        self._parts.append(
            element("rect", x=x, y=y, width=width, height=tall, rx=6, style=TONES[tone])
        )
        at, anchor = (x + width / 2, "middle") if centred else (x + 10, None)
        first = y + (PAD + 9 if lines or (tone == "dashed" and tall > 60) else tall / 2 + 4)
        self.words(at, first, title, "limit", anchor)
        for number, line in enumerate(lines, 1):
            self.words(at, first + LINE * number, line, "note", anchor)
        self._reach(y + tall)
        return y + tall

    def arrow(self, *points: tuple[float, float], label: str = "", two: bool = False) -> None:
        """A line through the points with a head at its end; `two`: at both ends."""
        ways = [coordinate for point in points[1:] for coordinate in ("L", *point)]
        self._parts.append(element("path", d=path("M", *points[0], *ways), class_="lead"))
        self._head(points[-2], points[-1])
        if two:
            self._head(points[1], points[0])
        if label:
            (a, b), (c, d) = points[0], points[1]
            middle = "middle" if b == d else None
            self.words((a + c) / 2 + (0 if middle else 7), (b + d) / 2 - 6, label, "note", middle)

    def _head(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        wings = [
            (end[0] - 8 * math.cos(angle + turn), end[1] - 8 * math.sin(angle + turn))
            for turn in (-0.42, 0.42)
        ]
        d = path("M", *end, "L", *wings[0], "L", *wings[1], "z")
        self._parts.append(element("path", d=d, style="fill:var(--roof)"))

    def line(self, x1: float, y1: float, x2: float, y2: float, class_: str = "axis") -> None:
        self._parts.append(element("path", d=path("M", x1, y1, "L", x2, y2), class_=class_))
        self._reach(max(y1, y2))

    def curve(self, x1: float, y1: float, x2: float, y2: float, tone: str) -> None:
        """A line from left to right that leaves and arrives level."""
        middle = (x1 + x2) / 2
        d = path("M", x1, y1, "C", middle, y1, middle, y2, x2, y2)
        style = f"fill:none;stroke:var(--{FILLS[tone]});stroke-width:1.8;stroke-opacity:.65"
        self._parts.append(element("path", d=d, style=style))

    def bar(
        self, x: float, y: float, width: float, height: float, tone: str, weak: bool = False
    ) -> None:
        """`weak`: an outline that is filled lightly."""
        colour = f"var(--{FILLS[tone]})"
        style = f"fill:{colour};" + (
            f"fill-opacity:.2;stroke:{colour};stroke-width:1" if weak else "fill-opacity:.85"
        )
        size = {"width": max(width, 0.5), "height": height}
        self._parts.append(element("rect", x=x, y=y, rx=2, style=style, **size))
        self._reach(y + height)

    def dot(self, x: float, y: float, tone: str, radius: float = 5) -> None:
        style = f"fill:var(--{FILLS[tone]});stroke:var(--paper)"
        self._parts.append(element("circle", cx=x, cy=y, r=radius, style=style))
        self._reach(y + radius)

    def legend(self, y: float, entries: dict[str, str], x: float = 20) -> None:
        """Squares with their meaning, by tone, in one row."""
        for tone, meaning in entries.items():
            self.bar(x, y - 9, 11, 11, tone)
            self.words(x + 17, y, meaning, "note")
            x += 17 + measure(meaning) + 22

    def _reach(self, y: float) -> None:
        self.bottom = max(self.bottom, y)

    def svg(self) -> str:
        size = f"0 0 {self.width:.0f} {self.bottom + 18:.0f}"
        root = {"viewBox": size, "class_": "picture", "role": "img", "font_family": FONT}
        return standalone(element("svg", "\n".join(self._parts), aria_label=self._title, **root))
