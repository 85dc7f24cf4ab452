"""Readers of what a report is made of: a saved report, and the output of verify."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from .reader import Reader


@cache
def saved() -> list[bytes]:
    from report_content import elsewhere, made_up

    from handglass.runtime.pages.content import as_json

    return [json.dumps(as_json(content)).encode() for content in (made_up(), elsewhere())]


def read_saved(data: bytes, folder: Path) -> None:
    """As `report` shows it, alone and beside another one."""
    from report_content import made_up

    from handglass.runtime.pages.content import parse_content
    from handglass.runtime.pages.page import draw_page

    content = parse_content(data, "saved.json")
    for sides in ([content], [made_up(), content]):
        page = draw_page(sides)
        assert page.count("<script>") == 1, "not escaped"
        assert all(line.isprintable() for line in page.splitlines()), "not escaped"


@cache
def verified() -> list[bytes]:
    from report_content import made_up

    parity = made_up().parity
    assert parity
    return [json.dumps({**asdict(parity), "first_fault": None, "lossy": ["logits"]}).encode()]


def read_verified(data: bytes, folder: Path) -> None:
    from handglass.runtime.pages.arrivals import draw_arrivals
    from handglass.runtime.pages.bars import draw_layers, draw_parity
    from handglass.runtime.pages.of_measurement import parse_verified

    parity = parse_verified(data, "verified.json")
    draw_parity(parity)
    draw_layers(parity.layers)
    draw_arrivals(parity.arrivals)


READERS = {
    "saved-report": Reader(saved, read_saved),
    "verified": Reader(verified, read_verified),
}
