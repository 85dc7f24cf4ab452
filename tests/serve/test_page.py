"""The chat page: answers, settings, keyboard, languages, screens, what a screen reader hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_browser import MODEL, PHONE, TEXT_ONLY, Open, picture
from page_server import PageServer, Reply

pytestmark = pytest.mark.serve


def test_an_answer_streams_and_is_counted(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    usage = {"prompt_tokens_details": {"cached_tokens": 77}}
    chat.ask("What is it?", Reply("One **two** three four five", pace=0.2, usage=usage))
    chat.until("document.querySelector('.rich')?.innerText.includes('two')")
    assert "five" not in chat.page.inner_text(".rich"), "it was shown at its end only"
    assert chat.page.get_attribute(".answer", "aria-busy") == "true"
    assert "tokens" in chat.see(".stats summary").inner_text()
    assert chat.texts(".rich strong") == ["two"]
    assert "77 tokens" in chat.page.text_content(".stats dl")
    assert "context 105 of 4,096" in chat.page.inner_text("#used")
    (request,) = fake_server.requests
    assert request["messages"] == [{"role": "user", "content": "What is it?"}]
    assert (request["model"], request["stream"]) == ("minicpm-v", True)


def test_a_screen_reader_hears_an_answer_once(open_page: Open) -> None:
    chat = open_page()
    chat.page.evaluate("""() => { window.heard = [];
        new MutationObserver(() => heard.push(document.querySelector('#status').textContent))
            .observe(document.querySelector('#status'), {childList: true}); }""")
    chat.answered("What?", Reply("word " * 40, pace=0.01))
    heard = chat.page.evaluate("heard")
    assert len(heard) == 3 and heard[-1].startswith("Answer: word word")
    assert chat.texts(".turn h3.unseen") == ["You", "Answer"]
    names = chat.page.evaluate("""() => [...document.querySelectorAll(
        'button,select,textarea,input')]
        .filter(e => e.checkVisibility())
        .filter(e => !(e.ariaLabel || e.innerText.trim()
            || e.labels?.[0]?.innerText.trim())).map(e => e.outerHTML)""")
    assert names == [], "controls without a name"


def test_what_a_model_writes_is_text(open_page: Open) -> None:
    hostile = (
        "<img src=x onerror=alert(1)><script>alert(2)</script>\n\n[link](javascript:alert(3))\n\n"
        "- <b>no</b>\n\n```html\n<svg onload=alert(4)>\n```\n\n| <i>a</i> | b |\n|--|--|\n| 1 | 2 |"
    )
    chat = open_page()
    dialogs: list[Any] = []
    chat.page.on("dialog", lambda dialog: dialogs.append(dialog))
    text = chat.answered("Go", Reply(hostile, thinking="<img src=y onerror=alert(5)>"))
    for part in ("<img src=x onerror=alert(1)>", "[link](javascript:alert(3))", "<b>no</b>"):
        assert part in text
    built = chat.page.evaluate(
        "[...new Set([...document.querySelectorAll('.answer .said *')].map(e => e.tagName))]"
    )
    assert {"IMG", "SCRIPT", "B", "I", "A"}.isdisjoint(built)
    assert {"LI", "PRE", "TABLE"} <= set(built)
    assert dialogs == []


def test_settings_are_sent_and_kept(open_page: Open, fake_server: PageServer) -> None:
    fake_server.models = [MODEL, TEXT_ONLY]
    chat = open_page()
    chat.page.click("#open-settings")
    chat.page.fill("#system", "Be brief.")
    chat.page.fill("#temperature", "0.5")
    chat.page.fill("#max-tokens", "12")
    chat.page.select_option("#thinking", "on")
    chat.page.click("#settings .solid")
    chat.answered("Hi", Reply("Done.", thinking="Hm, what now?", finish="length"))
    first = fake_server.requests[0]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["temperature"], first["max_tokens"]) == (0.5, 12)
    assert first["chat_template_kwargs"] == {"enable_thinking": True}
    assert "limit" in chat.page.inner_text(".answer .note")
    assert chat.page.inner_text(".thoughts summary").startswith("Thought")
    assert not chat.page.is_visible(".thoughts .said")
    chat.page.click(".thoughts summary")
    assert chat.page.inner_text(".thoughts .said") == "Hm, what now?"
    chat.page.select_option("#model", "words")
    assert chat.page.is_disabled("#attach")
    chat.answered("Again")
    assert [m["role"] for m in fake_server.requests[1]["messages"]] == ["user", "assistant", "user"]
    assert fake_server.requests[1]["model"] == "words"
    assert "thinking" not in json.dumps(fake_server.requests[1])


def test_the_keyboard(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    page = chat.page
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.evaluate("""() => document.querySelector('#question').dispatchEvent(new KeyboardEvent(
        'keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))""")
    assert fake_server.requests == [], "Enter that ends a Chinese input was sent"
    page.keyboard.press("Enter")
    chat.see(".answer .actions")
    assert fake_server.requests[0]["messages"][0]["content"] == "one\ntwo"
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("ArrowUp")
    assert page.input_value(".rewrite textarea") == "one\ntwo"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "question"
    page.reload()
    page.focus("a[href], button, input, select, textarea")  # the first of the page
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question"


def test_two_languages(open_page: Open) -> None:
    chat = open_page(locale="zh-CN")
    assert chat.page.get_attribute("html", "lang") == "zh-CN"
    assert chat.page.get_attribute("#question", "placeholder") == "输入问题"
    assert chat.answered("你好", Reply("你好！我是模型。")) == "你好！我是模型。"
    assert "个词元" in chat.page.inner_text(".stats summary")
    chat.page.click("#open-settings")
    chat.page.select_option("#language", "en")
    assert chat.page.get_attribute("html", "lang") == "en"
    assert "tokens" in chat.page.text_content(".stats summary")
    chat.page.reload()
    assert chat.page.get_attribute("#question", "placeholder") == "Ask a question"


def test_an_encoder_is_no_model_to_talk_to(open_page: Open, fake_server: PageServer) -> None:
    encoder = {"id": "minilm", "object": "model", "context": 128, "embeddings": True}
    fake_server.models = [encoder, MODEL]
    assert open_page().texts("#model option") == ["minicpm-v"]
    fake_server.models = [encoder]
    assert "offers no model" in open_page().page.inner_text("#notice")


def test_light_and_dark(open_page: Open) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(), open_page(color_scheme="dark")
    assert light.page.evaluate(colour) != dark.page.evaluate(colour)
    light.page.click("#open-settings")
    light.page.select_option("#theme", "dark")
    assert light.page.evaluate(colour) == dark.page.evaluate(colour)
    light.page.reload()
    assert light.page.evaluate(colour) == dark.page.evaluate(colour)


def test_a_phone(open_page: Open, tmp_path: Path) -> None:
    chat = open_page(viewport=PHONE, is_mobile=True, has_touch=True)
    wide = (
        "| a | b | c |\n|--|--|--|\n| " + "word " * 30 + "| 2 | 3 |\n\n```\n" + "x" * 300 + "\n```"
    )
    chat.answered("A" * 200, Reply(wide), pictures=[picture(tmp_path, "big.png", (2000, 500))])
    assert chat.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert chat.page.evaluate("document.querySelector('#scroll').scrollWidth") <= PHONE["width"]
    assert not chat.page.is_visible("#new")
    chat.page.tap("#open-shelf")
    chat.page.tap("#new")
    chat.see("#welcome")
    chat.until("!document.querySelector('#new').checkVisibility({visibilityProperty: true})")
