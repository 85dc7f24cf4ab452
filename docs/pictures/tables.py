"""Reads the tables of the documentation, which are the data of some pictures."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def table(page: str, *header: str) -> list[list[str]]:
    """The rows of the table whose first cells of the header are these, without links and marks.

    Raises LookupError if the page has no such table.
    """
    lines = (DOCS / f"{page}.md").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|") and cells(line)[: len(header)] == list(header):
            return [cells(row) for row in _until_blank(lines[number + 2 :])]
    raise LookupError(f"{page}.md has no table that begins with {header}")


def _until_blank(lines: list[str]) -> list[str]:
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return lines[:end]


def cells(line: str) -> list[str]:
    plain = _LINK.sub(r"\1", line).replace("`", "").replace("**", "")
    return [cell.strip() for cell in plain.strip().strip("|").split("|")]


def numbers(text: str) -> list[float]:
    """Every number of a text: "8.51 (5.5 / 8.6 / 11)" has four."""
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.?\d*", text)]
