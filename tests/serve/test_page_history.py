"""What the chat page keeps in the browser: conversations, versions, exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_browser import Chat, Open, picture
from page_server import PageServer, Reply

pytestmark = pytest.mark.serve


LISTED = "document.querySelectorAll('#list button').length === {}"


def test_the_history_survives(open_page: Open, tmp_path: Path) -> None:
    """A reload, a second conversation, a search, a deletion that is undone, export and import."""
    chat = open_page()
    chat.answered("About squares", pictures=[picture(tmp_path)])
    chat.page.click("#new")
    chat.answered("About circles", Reply("Round."))
    chat.page.reload()
    assert chat.see(".question .said").all_inner_texts() == ["About circles"]
    assert chat.texts("#list button") == ["About circles", "About squares"]
    chat.page.fill("#search", "red sq")  # in an answer
    assert chat.texts("#list button") == ["About squares"]
    chat.page.click("#list button")
    chat.see(".question img")
    chat.page.fill("#search", "")
    with chat.page.expect_download() as download:
        chat.page.click("#export-all")
    path = tmp_path / "kept.json"
    download.value.save_as(path)
    for left in (1, 0):
        chat.page.click("#open-menu")
        chat.page.click("#delete")
        chat.until(LISTED.format(left))  # the browser's store answers later
        chat.page.click("#list button") if left else None
    chat.page.click("#toast button")
    chat.until(LISTED.format(1))
    other = open_page()
    other.page.set_input_files("#imported", path)
    other.until(LISTED.format(2))
    other.page.click("#list li:last-child button")
    assert other.see(".question img").first.evaluate("e => e.naturalWidth") == 60


LOOP = {"id": "a", "parent": "a", "role": "user"}
EXPORT = {"format": "handglass-conversations", "version": 1, "conversations": [{"turns": [LOOP]}]}


@pytest.mark.parametrize("text", ["[]", "{", json.dumps(EXPORT)])
def test_a_bad_import_is_refused(text: str, open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    chat = open_page()
    chat.page.set_input_files("#imported", path)
    assert "bad.json is no export" in chat.see("#toast").inner_text()
    assert chat.texts("#list button") == []


def test_two_conversations_are_answered_at_once(open_page: Open) -> None:
    chat = open_page()
    chat.ask("Slowly", Reply("slow " * 40, pace=0.05))
    chat.see(".rich p")
    chat.page.click("#new")
    assert chat.answered("Fast", Reply("quick")) == "quick"
    chat.page.click("#list button:has-text('Slowly')")
    chat.see(".stats")
    assert chat.texts(".rich")[0].split() == ["slow"] * 40


def test_versions_of_questions_and_answers(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.answered("First?", Reply("alpha"))
    chat.page.click("[aria-label='Ask again']")
    chat.until("document.querySelector('.answer .count')?.innerText === '2/2'")
    chat.see(".answer .stats")
    assert chat.texts(".answer .rich") == ["A red square."]
    chat.page.click(".answer [aria-label='Earlier version']")
    assert chat.texts(".answer .rich") == ["alpha"]
    chat.page.hover(".question")
    chat.page.click("[aria-label='Edit the question']")
    chat.page.fill(".rewrite textarea", "Second?")
    chat.page.press(".rewrite textarea", "Enter")
    chat.until("document.querySelector('.question .count')?.innerText === '2/2'")
    chat.see(".answer .actions")
    assert [r["messages"][-1]["content"] for r in fake_server.requests] == [
        "First?",
        "First?",
        "Second?",
    ]
    chat.page.click(".question [aria-label='Earlier version']")
    assert chat.texts(".question .said") == ["First?"], "the first question is still there"


def test_two_tabs_show_the_same(open_page: Open, fake_server: PageServer) -> None:
    """What one answers appears in the other, which leaves it alone until it is complete."""
    first = open_page()
    first.answered("One?")
    second = Chat(first.page.context.new_page(), fake_server, [])
    second.page.click("#list button")
    second.see(".answer")
    first.ask("Slowly", Reply("slow " * 60, pace=0.08))
    second.until("document.querySelectorAll('.rich')[1]?.innerText.startsWith('slow')")
    assert "in another tab" in second.page.inner_text(".answer:nth-child(4) .note")
    second.page.fill("#question", "Me too?")
    second.page.press("#question", "Enter")
    assert "in another tab" in second.see("#toast").inner_text()
    second.until("document.querySelectorAll('.stats').length === 2")
    assert second.texts(".rich")[1].split() == ["slow"] * 60
    second.page.press("#question", "Enter")
    first.until("document.querySelectorAll('.question').length === 3")
    assert len(fake_server.requests) == 3
