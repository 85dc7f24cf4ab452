"""The chat page when something goes wrong: a busy server, a cut line, a wrong token."""

from __future__ import annotations

import pytest
from page_browser import Open
from page_server import PageServer, Reply

pytestmark = pytest.mark.serve


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stopping_keeps_what_was_said(way: str, open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.ask("Count", Reply("one two " + "more " * 500, pace=0.05))
    chat.until("document.querySelector('.rich')?.innerText.includes('two')")
    if way == "button":
        chat.page.click("#send")
    else:
        chat.page.press("#question", "Escape")
    assert "Stopped." in chat.see(".answer .note").inner_text()
    assert fake_server.cancelled.wait(10), "the server was not told"
    assert chat.answered("Go on") == "A red square."
    said = fake_server.requests[1]["messages"][1]["content"]
    assert said.startswith("one two")


def test_a_busy_server_is_asked_again(open_page: Open, fake_server: PageServer) -> None:
    busy = Reply(status=429, retry_after=0.3, error={"message": "queue full"})
    assert open_page().answered("Hello?", busy, busy) == "A red square."
    assert len(fake_server.requests) == 3


def test_waiting_can_be_ended(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.ask("Hello?", Reply(status=503, retry_after=500, error={"message": "draining"}))
    assert "restarting" in chat.see(".waiting").inner_text()
    chat.page.press("#question", "Escape")
    chat.see(".answer .note")
    chat.ask("Hello?", Reply(status=429, retry_after=500))
    chat.see(".waiting button").click()
    chat.until("document.querySelectorAll('.rich')[1].innerText === 'A red square.'")


PROBLEMS = {
    "cut line": (Reply("some words here", breaks_after=3), "The connection to the server was lost"),
    "context": (
        Reply(status=400, error={"message": "9000 tokens", "code": "context_length_exceeded"}),
        "longer than the model's context",
    ),
    "refused": (Reply(status=400, error={"message": "no such thing"}), "no such thing"),
    "large": (Reply(status=413), "larger than the server takes"),
    "internal": (Reply(status=500), "could not answer"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_said_and_can_be_tried_again(name: str, open_page: Open) -> None:
    reply, words = PROBLEMS[name]
    chat = open_page()
    chat.ask("Hello?", reply)
    assert words in chat.see(".problem").inner_text()
    if name == "cut line":
        assert "some words" in chat.page.inner_text(".rich")
    chat.page.click(".problem .solid")
    chat.until("document.querySelector('.rich')?.innerText === 'A red square.'")


def test_a_server_that_is_gone(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.answered("Are you there?")
    fake_server.close()
    chat.ask("Still?")
    assert "connection to the server was lost" in chat.see(".problem").inner_text()
    assert chat.texts(".question .said") == ["Are you there?", "Still?"]


def test_a_token_is_asked_for_and_sent(open_page: Open, fake_server: PageServer) -> None:
    fake_server.token = "open-sesame"
    chat = open_page()
    assert "asks for its token" in chat.see("#token-text").inner_text()
    chat.page.fill("#token-value", "wrong")
    chat.page.click("#token-use")
    chat.until("document.querySelector('#token-text').innerText.includes('not accept')")
    chat.page.fill("#token-value", "open-sesame")
    chat.page.check("#token-keep")
    chat.page.click("#token-use")
    chat.until("document.querySelector('#model').value")
    assert chat.answered("Hello?") == "A red square."
    chat.page.reload()
    chat.until("document.querySelector('#model').value")
    assert not chat.page.is_visible("#token")
