"""The pages of docs/: their links lead somewhere, and the error texts they quote exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOMS = ("handglass/cli", "compiler", "runtime", "schedules", "targets")
VALUE = "\0"
"""Where an f-string has a value."""
ROW = re.compile(r"^\| `(.+?)` \| ", re.MULTILINE)


@cache
def texts() -> list[str]:
    """All strings of the source; neighbouring literals are one, as Python joins them."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return [text for file in files for text in strings(ast.parse(file.read_text("utf-8")))]


def strings(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else VALUE for v in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def pattern(quoted: str) -> re.Pattern[str]:
    """`...` stands for anything."""
    return re.compile(".*".join(map(re.escape, quoted.split("..."))), re.DOTALL)


QUOTED = ROW.findall((DOCS / "troubleshooting.md").read_text("utf-8"))


def test_there_are_error_texts() -> None:
    assert len(QUOTED) > 25 and len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_error_text_is_in_the_source(quoted: str) -> None:
    fixed = quoted.replace("...", "").strip()
    assert len(fixed) > 10, "too little is quoted to find it"
    assert any(pattern(quoted).search(text) for text in texts())


def test_a_text_that_is_not_there_is_noticed() -> None:
    assert not any(pattern("weights and cache took ... GB").search(text) for text in texts())


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http:", "https:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    assert not {name for name in pages if f"({name}" not in index}
