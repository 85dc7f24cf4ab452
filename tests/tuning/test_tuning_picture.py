"""docs/tuning.svg is what its script draws."""

from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_picture_of_tuning_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    drawn = import_module("draw_tuning").draw()
    assert (DOCS / "tuning.svg").read_text("utf-8") == drawn, "run docs/draw_tuning.py"
