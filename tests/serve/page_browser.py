"""The chat page in headless Chromium, as a person uses it.

The page runs under the strictest policy that a server can send: anything else than its one script,
such as markup in what a model wrote, would be reported, and each test fails on a report.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_server import PageServer, Reply
from PIL import Image

WIDE, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 780}
MODEL = {
    "id": "minicpm-v",
    "object": "model",
    "context": 4096,
    "vision": True,
    "thinking": True,
    "system": True,
}
TEXT_ONLY = {**MODEL, "id": "words", "vision": False, "thinking": False, "system": False}


def chromium_path() -> str:
    named = os.environ.get("HANDGLASS_CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("needs Chromium: apt-get install chromium, or set HANDGLASS_CHROMIUM")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright from PyPI")
    with sync_api.sync_playwright() as tool:
        camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        opened = tool.chromium.launch(
            executable_path=chromium_path(), args=["--no-sandbox", *camera]
        )
        yield opened
        opened.close()


@pytest.fixture
def fake_server() -> Iterator[PageServer]:
    started = PageServer([MODEL])
    yield started
    started.close()


Open = Callable[..., "Chat"]


@pytest.fixture
def open_page(chromium: Any, fake_server: PageServer) -> Iterator[Open]:
    """Opens the page in a new browser profile; a report or an error on any page fails the test."""
    contexts, reports = [], list[str]()

    def open_one(**options: Any) -> Chat:
        context = chromium.new_context(**{"viewport": WIDE, "locale": "en-US", **options})
        context.set_default_timeout(15_000)
        contexts.append(context)
        return Chat(context.new_page(), fake_server, reports)

    yield open_one
    for context in contexts:
        context.close()
    assert reports == []


class Chat:
    """The page as a person uses it."""

    def __init__(self, page: Any, server: Any, reports: list[str]) -> None:
        self.page = page
        self.server = server  # a PageServer, or another one whose answers are its own
        page.on("pageerror", lambda error: reports.append(str(error)))
        page.on("console", lambda message: self._note(message, reports))
        page.goto(server.url)
        self.until("document.querySelector('#model').value || notice.dataset.key")

    def _note(self, message: Any, reports: list[str]) -> None:
        """A status or a connection that a test wants to fail is no report."""
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            reports.append(message.text)

    def ask(self, text: str, *replies: Reply, pictures: list[Path] | None = None) -> None:
        if replies:
            self.server.replies += replies
        if pictures:
            self.page.set_input_files("#files", pictures)
            self.see(f"#waiting li:nth-child({len(pictures)})")
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    def answered(self, text: str, *replies: Reply, pictures: list[Path] | None = None) -> str:
        """Ask, and wait for the end of the answer, of which the text is returned."""
        count = self.page.locator(".turn.answer").count()
        self.ask(text, *replies, pictures=pictures)
        answer = self.page.locator(".turn.answer").nth(count)
        answer.locator(".actions").wait_for()
        return str(answer.locator(".said.rich").inner_text())

    def see(self, selector: str) -> Any:
        found = self.page.locator(selector)
        found.first.wait_for()
        return found

    def until(self, condition: str, seconds: float = 15) -> None:
        """Wait for a condition in JavaScript. The tool's own way needs a weaker policy."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.03)

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())


def picture(folder: Path, name: str = "red.png", size: tuple[int, int] = (60, 40)) -> Path:
    path = folder / name
    Image.new("RGB", size, "red").save(path)
    return path
