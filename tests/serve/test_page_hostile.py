"""The chat page in hostile hands: long lines, foreign files, a full disk, silence, two tabs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from page_browser import MODEL, Chat, Open, picture
from page_server import PageServer, Reply

pytestmark = pytest.mark.serve

LONG = 60_000
SPACES = " " * LONG
LINES = {
    "heading": f"# a{SPACES}b\u2028c",
    "hashes": "# " + "#" * LONG + "x",
    "fence": f"```{SPACES}`",
    "item": f"- a{SPACES}\u2028b",
    "table": f"a|b\n-{SPACES}x|",
    "rule": "- " * LONG + "x",
    "stars": "*" * LONG,
    "ticks": "`a" * LONG,
    "continued item": "- a\n" + " b\n" * 3 * LONG,
    "quotes": ">" * LONG,
}


def answered(text: str, **fields: Any) -> dict[str, Any]:
    """The file of a conversation with one answer."""
    question = {"id": "a", "parent": None, "role": "user", "text": "Go"}
    answer = {"id": "b", "parent": "a", "role": "assistant", "text": text, "state": "done"}
    turns = {"a": question, "b": {**answer, **fields}}
    conversation = {"title": "Foreign", "turns": turns, "leaf": "b"}
    kind = {"format": "handglass-conversations", "version": 1}
    return {**kind, "conversations": [conversation], "pictures": {}}


def imported(chat: Chat, folder: Path, file: dict[str, Any]) -> None:
    """Import the file and open its conversation."""
    path = folder / "file.json"
    path.write_text(json.dumps(file))
    chat.page.set_input_files("#imported", path)
    chat.see("#list button").click()
    chat.see(".answer .actions")


@pytest.mark.parametrize("name", LINES)
def test_no_text_takes_long_to_show(name: str, open_page: Open, tmp_path: Path) -> None:
    """A form that tries many ways to read a line would take minutes."""
    start = time.monotonic()
    imported(open_page(), tmp_path, answered(LINES[name]))
    assert time.monotonic() - start < 12


def test_blocks_of_an_answer(open_page: Open, tmp_path: Path) -> None:
    text = (
        "# One ##\n\n### Two # three\n#\n\n~~~ python x\na`b\n~~~\n\n```\nplain\n```\n\n"
        "a | b\n:-- | --:\n1 | 2\n\n- item\n  more\n\n> said\n\n---\n#no heading\n\na | b\nno table"
    )
    chat = open_page()
    imported(chat, tmp_path, answered(text))
    blocks = chat.page.evaluate(
        "[...document.querySelector('.rich').children].map(e => e.tagName + ' ' + e.textContent)"
    )
    assert blocks == [
        *("H3 One", "H4 Two # three", "P #", "DIV pythona`b", "DIV codeplain", "DIV ab12"),
        *("UL item\nmore", "BLOCKQUOTE said", "HR ", "P #no heading", "P a | b\nno table"),
    ]


FOREIGN: dict[str, dict[str, Any]] = {
    "a failure without a reason": {"state": "failed"},
    "a reason that every object has": {"state": "failed", "problem": {"kind": "constructor"}},
    "counts that are none": {"usage": {"prompt_tokens": {}, "prompt_tokens_details": None}},
    "times that are none": {"stats": {"total": "x", "first": None}, "timings": {"queue_ms": []}},
    "a state that is unknown": {"state": "__proto__", "finish": "toString"},
    "one that was being written": {"state": "running"},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_shown(name: str, open_page: Open, tmp_path: Path) -> None:
    chat = open_page()
    imported(chat, tmp_path, answered("Hm.", **FOREIGN[name]))
    chat.page.reload()
    chat.see(".answer .actions")
    assert chat.answered("And?") == "A red square."


def test_a_picture_of_a_foreign_file_that_is_none(
    open_page: Open, fake_server: PageServer, tmp_path: Path
) -> None:
    chat = open_page()
    file = answered("Red.")
    file["conversations"][0]["turns"]["a"]["pictures"] = ["p", "gone"]
    data = "data:image/svg+xml;base64,PHN2Zy8+"
    file["pictures"] = {"p": {"name": "<b>.svg", "width": 1e300, "height": "x", "data": data}}
    imported(chat, tmp_path, file)
    chat.see(".question .lost")
    assert chat.page.get_attribute(".question .look", "aria-label") == "Look at <b>.svg"
    chat.answered("And?")
    assert len(fake_server.requests[0]["messages"][0]["content"]) == 2


def test_a_full_disk_loses_no_picture(
    open_page: Open, fake_server: PageServer, tmp_path: Path
) -> None:
    """What the browser has no room for is held as long as the page is open, and that is said."""
    chat = open_page()
    chat.answered("First?")
    chat.page.evaluate("""() => { IDBObjectStore.prototype.put = () => {
        throw new DOMException("no space", "QuotaExceededError"); }; }""")
    chat.answered("What?", pictures=[picture(tmp_path)])
    assert "no room left for conversations: no space" in chat.page.text_content("#toast")
    assert chat.page.locator(".question img").count() == 1
    sent = fake_server.requests[1]["messages"][-1]["content"]
    assert [part["type"] for part in sent] == ["image_url", "text"]
    chat.page.click("#new")
    chat.answered("Another?")
    chat.page.click("#list li:last-child button")
    assert chat.see(".question img").count() == 1, "the conversation lost its last turns"
    chat.answered("Go on")
    assert [len(request["messages"]) for request in fake_server.requests] == [1, 3, 1, 5]


def test_more_pictures_than_one_request_takes(
    open_page: Open, fake_server: PageServer, tmp_path: Path
) -> None:
    fake_server.models = [{**MODEL, "limits": {"body_bytes": 32 << 20, "pictures": 16}}]
    many = [picture(tmp_path, f"{number}.png") for number in range(50)]
    chat = open_page()
    chat.page.set_input_files("#files", many)
    assert "16.png is left out" in chat.see("#toast").inner_text()
    chat.answered("Which?")
    assert len(fake_server.requests[0]["messages"][0]["content"]) == 17
    chat.ask("And this?", pictures=many[20:21])
    problem = chat.see(".problem").inner_text()
    assert "17 pictures, at most 16" in problem and len(fake_server.requests) == 1
    chat.page.click(".problem .lined")
    chat.see("#welcome")


def test_a_question_waits_for_its_pictures(
    open_page: Open, fake_server: PageServer, tmp_path: Path
) -> None:
    chat = open_page()
    chat.page.evaluate("""() => { const read = createImageBitmap;
        window.createImageBitmap = async (file) => {
            await new Promise((done) => setTimeout(done, 500)); return read(file); }; }""")
    some = [picture(tmp_path), picture(tmp_path, "other.png")]
    chat.page.set_input_files("#files", some)
    chat.page.fill("#question", "Which?")
    chat.page.press("#question", "Enter")  # before they are read
    chat.see(".answer .actions")
    assert [len(r["messages"][0]["content"]) for r in fake_server.requests] == [3]
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"not a picture")
    chat.page.set_input_files("#files", [some[0], fake])
    chat.page.fill("#question", "And these?")
    chat.page.press("#question", "Enter")
    chat.until("!document.querySelector('#toast').hidden")
    chat.see("#waiting img")
    assert len(fake_server.requests) == 1, "it was sent without one of its pictures"
    assert chat.page.input_value("#question") == "And these?"


def test_a_server_that_falls_silent(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.page.clock.install()
    chat.page.reload()
    chat.until("document.querySelector('#model').value")
    chat.ask("Hello?", Reply("word " * 3, pace=0.1, stalls_after=3))
    chat.until("document.querySelector('.rich')?.innerText.includes('word')")
    chat.page.clock.fast_forward(61_000)
    assert "connection to the server was lost" in chat.see(".problem").inner_text()
    assert "word" in chat.page.inner_text(".rich")
    assert fake_server.cancelled.wait(10), "the server was not told"


def test_a_second_tab_knows_what_the_first_waits_for(
    open_page: Open, fake_server: PageServer
) -> None:
    """Also one that is opened later, and as long as nothing of the answer has come."""
    first = open_page()
    first.ask("Slowly", Reply("slow", pace=60.0))
    second = Chat(first.page.context.new_page(), fake_server, [])
    second.page.clock.install()
    second.page.reload()
    second.see("#list button").click()
    assert "in another tab" in second.see(".answer .note").inner_text()
    second.page.clock.fast_forward(4_000)
    time.sleep(2.5)  # in which the first tab says so again
    second.page.clock.fast_forward(2_500)
    assert "in another tab" in second.see(".answer .note").inner_text()
    first.page.close()
    second.page.clock.fast_forward(8_000)
    assert "interrupted" in second.see(".problem").inner_text()


def test_what_another_tab_adds_is_not_overwritten(open_page: Open, fake_server: PageServer) -> None:
    """By a question that was being changed meanwhile."""
    first = open_page()
    first.answered("One?")
    second = Chat(first.page.context.new_page(), fake_server, [])
    second.page.click("#list button")
    second.page.hover(".question")
    second.page.click("[aria-label='Edit the question']")
    first.answered("Two?")
    second.page.fill(".rewrite textarea", "Other?")
    second.page.press(".rewrite textarea", "Enter")
    second.until("document.querySelector('.question .count')?.innerText === '2/2'")
    second.see(".answer .actions")
    second.page.click("[aria-label='Earlier version']")
    assert second.texts(".question .said") == ["One?", "Two?"]
