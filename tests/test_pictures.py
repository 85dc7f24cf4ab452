"""Each page of docs/ has a picture, and those that docs/pictures draws are up to date."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures"
LARGEST = 40_000
WITHOUT = {"diary"}
"""Text as it was written down."""
NAMES = sorted(path.stem for path in PICTURES.glob("*.svg"))
LOADS_TVM = {"kernels", "vulkan"}


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(PICTURES)])
    return import_module("draw")


def test_each_page_has_a_picture_that_exists() -> None:
    for page in DOCS.glob("*.md"):
        found = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", page.read_text("utf-8"))
        assert found or page.stem in WITHOUT, page.name
        assert all((DOCS / file).is_file() for _, file in found), page.name


def test_every_drawn_picture_is_committed(drawing: Any) -> None:
    assert sorted(drawing.PICTURES) == NAMES


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.compiler) if n in LOADS_TVM else n for n in NAMES]
)
def test_a_picture_is_up_to_date(name: str, drawing: Any) -> None:
    """Text that does not fit its box is an error of the drawing."""
    file = PICTURES / f"{name}.svg"
    drawn = drawing.PICTURES[name]().svg()
    assert file.read_text("utf-8") == drawn, f"run docs/pictures/draw.py {name}"
    assert len(drawn.encode()) < LARGEST
    assert "prefers-color-scheme: dark" in drawn and ElementTree.fromstring(drawn).get("aria-label")


def test_what_can_be_added_is_on_the_page(drawing: Any) -> None:
    page = (DOCS / "adding.md").read_text("utf-8")
    for _, _, names in drawing.parts.ADDED:
        assert all(name in page for name in names.split(", ")), names


def test_a_text_that_is_too_long_is_an_error(drawing: Any) -> None:
    sheet = drawing.Sheet("A sheet", 200)
    with pytest.raises(ValueError, match="does not fit a box"):
        sheet.box(10, 50, 60, "a title that is too long")
    with pytest.raises(ValueError, match="does not fit the sheet"):
        sheet.words(150, 50, "words beyond the border")
