"""The policy of the page: its own scripts and styles run in a browser, and nothing else."""

import base64
import hashlib
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="answers over HTTP: handglass[serve]")

from handglass.runtime.serve.web import page as served_page
from handglass.runtime.serve.web.page import page, policy

TEXT = """<!doctype html><STYLE media="screen">p { color: red }</style>
<script type="module">let a = "<b>";\r\n</script><script>b()</script>"""


def source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_inline_scripts_and_styles_are_named_by_their_hash() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy(TEXT).split("; "))
    first, second = source('let a = "<b>";\n'), source("b()")
    assert rules["script-src"] == f"{first} {second}"
    assert rules["style-src"] == source("p { color: red }")
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy(TEXT) and "*" not in policy(TEXT)


def test_a_page_without_scripts_may_run_none() -> None:
    assert "script-src 'none'; style-src 'none'" in policy("<p>Hello</p>")


def test_the_file_is_served_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.html"
    monkeypatch.setattr(served_page, "PAGE", file)
    assert page().media_type == "text/plain"
    file.write_text(TEXT, "utf-8", newline="")
    shown = page()
    assert shown.media_type == "text/html"
    assert shown.headers["Content-Security-Policy"] == policy(TEXT)
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
