"""Elements of SVG and HTML as text. Every value from a bundle or a file goes through `escaped`."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from ..system.printable import printable

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def escaped(text: object) -> str:
    """For an element or a quoted attribute; control characters are shown as escapes."""
    return escape(printable(text, lines=True), quote=True)


def element(name: str, content: str = "", **attributes: object) -> str:
    """One element around ready markup; `class_` is the attribute class, `data_tip` is data-tip.

    Numbers are rounded to two digits; None leaves an attribute out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"  # HTML has no empty elements of this kind


def text(x: float, y: float, words: object, **attributes: object) -> str:
    return element("text", escaped(words), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("path", d=path("M", x1, y1, "L", x2, y2), class_=class_)


def symbol(shape: str, x: float, y: float, radius: float) -> str:
    """The path of a circle, a square or a triangle, of about the same area."""
    r = radius
    if shape == "circle":
        half = "a", r, r, 0, 1, 0
        return path("M", x - r, y, *half, 2 * r, 0, *half, -2 * r, 0, "z")
    if shape == "square":
        side = 1.76 * r
        return path("M", x - side / 2, y - side / 2, "h", side, "v", side, "h", -side, "z")
    return path("M", x, y - 1.3 * r, "L", x + 1.17 * r, y + 0.9 * r, "H", x - 1.17 * r, "z")


def path(*parts: str | float) -> str:
    """Commands and numbers of a path."""
    return " ".join(part if isinstance(part, str) else _number(part) for part in parts)


def shortened(name: str, most: int) -> str:
    """At most `most` characters, with an ellipsis in the middle."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}" if most > 2 else ""


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return files(__package__).joinpath(name).read_text("utf-8")


def standalone(picture: str) -> str:
    """A picture of this package as an SVG file of its own, with the colours of the page."""
    style = re.sub(r"\s*\n\s*", "\n", asset("colours.css"))
    head, _, rest = picture.partition(">")
    background = element("rect", width="100%", height="100%", class_="paper", rx=10)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}><style>{style}</style>{background}{rest}\n"


def _value(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    return escaped(value).replace("\n", "&#10;")  # XML takes a newline in an attribute for a space


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
