"""A contact sheet: what a search has found, as one HTML file with the pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from handglass.errors import InputError

from ..prompt.preprocess import open_picture
from ..system.printable import printable
from .nearest import Found

SIDE = 240
"""Pixels of the longer side of a picture."""
STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2rem; background: Canvas; color: CanvasText }
:root { color-scheme: light dark }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)) }
figure { margin: 0 }
figure > img, figure > div { max-width: 100%; height: 240px; object-fit: contain; display: block }
figcaption { overflow-wrap: anywhere; margin-top: .3rem }
"""


def sheet(query: str, folder: Path, found: Sequence[Found]) -> str:
    """The page. A picture that can no longer be read is named without being shown."""
    title = escape(printable(query))
    figures = "\n".join(_figure(folder, one) for one in found)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n<h1>{title}</h1>\n<main>\n{figures}\n</main>\n</html>\n"
    )


def _figure(folder: Path, found: Found) -> str:
    name = escape(printable(found.name))
    try:
        data = base64.b64encode(thumbnail(folder / found.name)).decode()
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'
    except InputError:
        shown = "<div>cannot be read</div>"
    return f"<figure>{shown}<figcaption>{found.cosine:.3f} {name}</figcaption></figure>"


def thumbnail(picture: Path) -> bytes:
    """A JPEG of at most SIDE x SIDE pixels. Raises InputError."""
    opened = open_picture(picture)
    scale = min(1.0, SIDE / max(opened.size))
    width, height = (max(1, round(side * scale)) for side in opened.size)
    out = io.BytesIO()
    opened.resize((width, height)).save(out, "JPEG", quality=85)
    return out.getvalue()
