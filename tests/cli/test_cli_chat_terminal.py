"""Every command of `handglass chat` on a pseudo terminal, with a model whose session is a fake."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_terminal import Chat
from cli_model import red_picture


@pytest.fixture
def started() -> Iterator[list[Chat]]:
    chats: list[Chat] = []
    yield chats
    for chat in chats:
        chat.close()


def test_every_command(started: list[Chat], tmp_path: Path) -> None:
    path, red = tmp_path / "my talk", red_picture(tmp_path)
    chat = Chat()
    started.append(chat)
    preview = chat.enter(f"/image '{red}'", "red.png: shown with the next question")
    assert preview.count("\x1b[38;2;255;0;0;48;2;255;0;0m▀") > 40, "no red blocks"
    assert "red square." in chat.enter("What is it?", "decode")
    chat.enter(red.as_uri(), "red.png: shown with the next question")
    chat.enter("/undo", "red.png: not shown")
    assert "red square." in chat.enter("And now?", "prefill")
    assert "red square." in chat.enter("/retry", "decode")
    chat.enter("/undo", "taken back: 'And now?'")
    chat.enter("/system Be brief.", "instructions: Be brief.")
    assert "cannot be read here" in chat.enter("/paste", "/image PATH")
    chat.enter(f"/save {path}", "saved (1 question, 1 picture, ")
    assert "1 question, 1 picture" in chat.enter("/stats", "last answer")
    chat.enter("/reset", "forgotten")
    assert "0 questions" in chat.enter("/stats", "memory")
    chat.enter(f"/load {path}", "positions need not be computed again")
    chat.enter("/system", "instructions: Be brief.")
    assert "/paste" in chat.enter("/help", "/exit")
    chat.enter("/nothing", "unknown command /nothing")
    started.remove(chat)
    assert chat.leave() == 0


def test_a_kept_conversation_can_be_loaded_at_the_start(
    started: list[Chat], tmp_path: Path
) -> None:
    path, red = tmp_path / "my talk", red_picture(tmp_path)
    chat = Chat()
    started.append(chat)
    chat.enter(red, "red.png: shown with the next question")
    chat.enter("What is it?", "decode")
    chat.enter("/system Be brief.", "instructions: Be brief.")
    chat.enter(f"/save {path}", "saved (1 question, 1 picture, ")
    started.remove(chat)
    assert chat.leave() == 0
    again = Chat("--load", path, "--system", "Be kind.")
    started.append(again)
    assert "loaded (1 question, 1 picture)" in again.greeting
    assert "need not be computed again" in again.greeting
    assert again.until("\n> ") == "What is it?\r\nIt is a red square.\r"
    again.enter("/system", "instructions: Be kind.")
    again.enter("/save", f"{path}: saved (1 question, 1 picture, ")


def test_ctrl_c_keeps_what_was_said(started: list[Chat]) -> None:
    chat = Chat()
    started.append(chat)
    os.write(chat.fd, b"What is it?\r")
    chat.until("It is")
    chat.interrupt()
    chat.until("the answer so far is kept")
    chat.until("\n> ")
    chat.enter("/stats", "1 question\r")
    chat.enter("/retry", "decode")
    text = chat.enter("/stats", "answers:")
    computed, reused = map(int, re.findall(r"(\d+) tokens computed, (\d+) reused", text)[0])
    assert computed and reused, "the talk lost its cache"
