"""The chat page as `handglass serve` sends it, with its answers, policy, limits and token."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

from page_browser import Chat, picture
from serve_fakes import ANSWER, FAKES, THOUGHT
from serve_process import Server, serving

pytestmark = pytest.mark.serve

TOKEN = "a-token-of-the-tests-0123"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    options = {"pictures": 3, "token": TOKEN, "body_bytes": 300_000, "step_s": 0.02}
    with serving([FAKES, json.dumps(options)], folder / "log") as running:
        yield running


@pytest.fixture
def chat(chromium: Any, server: Server) -> Iterator[Chat]:
    context, reports = chromium.new_context(locale="en-US"), list[str]()
    context.set_default_timeout(15_000)
    opened = Chat(context.new_page(), server, reports)
    opened.see("#token-value").fill(TOKEN)
    opened.page.click("#token-use")
    opened.until("document.querySelector('#model').value === 'fake'")
    yield opened
    context.close()
    assert reports == []


def answer(chat: Chat, question: str, *pictures: Path) -> str:
    return chat.answered(question, pictures=list(pictures))


def test_a_conversation_with_pictures(chat: Chat, tmp_path: Path) -> None:
    assert answer(chat, "What is it?", picture(tmp_path), picture(tmp_path, "b.png")) == ANSWER
    assert answer(chat, "And now?") == ANSWER
    first, second = (chat.page.locator(".stats dl").nth(i).text_content() for i in (0, 1))
    assert "Pictures8 tokens" in first and "From the cache0 tokens" in first
    assert "Ended bythe model" in second and "From the cache0" not in second
    assert "from the cache" in chat.texts(".stats summary")[1]
    assert "of 200" in chat.page.inner_text("#used")
    more = [picture(tmp_path, f"{i}.png") for i in range(4)]
    chat.page.set_input_files("#files", more)
    assert "3.png is left out: a question takes at most 3" in chat.see("#toast").inner_text()
    chat.page.fill("#question", "Too many?")
    chat.page.press("#question", "Enter")
    assert "5 pictures, at most 3" in chat.see(".problem").inner_text()


def test_thoughts_and_instructions(chat: Chat) -> None:
    chat.page.select_option("#model", "thinker")
    chat.page.click("#open-settings")
    chat.page.fill("#system", "Be brief.")
    chat.page.select_option("#thinking", "on")
    chat.page.click("#settings .solid")
    assert answer(chat, "What?") == ANSWER
    assert chat.page.text_content(".thoughts .said") == THOUGHT


def test_stopping_and_a_full_context(chat: Chat, server: Server) -> None:
    chat.page.select_option("#model", "endless")
    chat.ask("Go on")
    chat.until("document.querySelector('.rich')?.innerText.length > 20")
    chat.page.press("#question", "Escape")
    chat.see(".answer .note")
    end = time.monotonic() + 10
    while "endless: cancelled" not in server.log.read_text():
        assert time.monotonic() < end, "the answer went on"
        time.sleep(0.05)
    chat.page.click("#new")
    chat.ask("x" * 3000)
    assert "longer than the model's context" in chat.see(".problem").inner_text()
