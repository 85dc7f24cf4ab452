"""`handglass chat` on narrow, plain and resized terminals, with rough input and foreign files."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_terminal import PROGRAM, Chat
from cli_model import red_picture
from kept_talk import HERE, talk

from handglass.runtime.answer.saved_file import write_conversation

HALF = "half a line"
PASTED, NOT_PASTED = "\x1b[200~", "\x1b[201~"
"""What a terminal sends around pasted text, if it was asked to."""


@pytest.fixture(scope="module")
def terminal() -> Iterator[Chat]:
    """One process for all tests, as it takes a second to start."""
    chat = Chat("--preview", "blocks")
    yield chat
    chat.close()


@pytest.fixture
def chat(terminal: Chat) -> Chat:
    terminal.resize(100)
    terminal.enter("/reset", "forgotten")
    return terminal


def widest(shown: str) -> int:
    """Columns of the widest line of blocks in a preview."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    return max((len(line) for line in lines if "▀" in line), default=0)


def test_narrow_and_resized(chat: Chat, tmp_path: Path) -> None:
    red, shown = red_picture(tmp_path), "shown with the next"
    chat.resize(20)
    assert 10 < widest(chat.enter(f"/image {red}", shown)) < 20
    for columns, text in ((70, "What is "), (10, "it? 这张图里有什么？"), (50, " 🙂")):
        chat.write(text)
        chat.until(text[-1])
        chat.resize(columns)
    assert "It is a red square." in chat.enter("", "decode")
    taken = chat.enter("/undo", "its pictures wait")
    assert "taken back: 'What is it? 这张图里有什么？ 🙂'" in taken
    chat.resize(0, 0)  # nobody tells the size
    assert widest(chat.enter(f"/image {red}", shown)) > 20


def test_a_plain_terminal_gets_no_codes(tmp_path: Path) -> None:
    chat = Chat(term="dumb")
    shown = chat.enter(red_picture(tmp_path), "shown with the next")
    shown += chat.enter("What is it?", "decode")
    assert chat.leave() == 0
    assert "It is a red square." in shown and "\x1b" not in shown and "▀" not in shown


def test_many_lines_that_are_pasted_are_one_question(chat: Chat) -> None:
    pytest.importorskip("readline")
    chat.write(f"{PASTED}Look:\nline two\n/exit{NOT_PASTED}")
    chat.enter("", "decode")
    chat.enter("/undo", r"taken back: 'Look:\nline two\n/exit'")
    chat.write(f"{PASTED}/exit or not\n{NOT_PASTED}")
    chat.enter("", "/exit takes nothing behind it")
    chat.write(f"{PASTED}{'word ' * 400}{NOT_PASTED}")
    chat.enter("", "the context of this bundle has 200 positions")


def test_ctrl_c_in_every_state(chat: Chat, tmp_path: Path) -> None:
    path, red = tmp_path / "talk", red_picture(tmp_path)
    chat.enter("One?", "decode")
    chat.enter(f"/save {path}", "saved (1 question")
    for line in (red, "Two?", "/retry", f"/save {path}", f"/load {path}", "/stats"):
        chat.write(f"{line}\r")
        chat.until("\n")  # Ctrl-C makes a terminal forget what is unread
        chat.interrupt()
        chat.until("interrupted", "press Ctrl-C again")
        chat.until("\n> ")
        chat.write("\r")  # or the next Ctrl-C may be the second at an empty prompt, which leaves
        chat.until("\n> ")
    chat.write(HALF)
    chat.until(HALF)
    chat.interrupt()
    chat.until("\n> ")
    assert "It is a red square." in chat.enter("Three?", "decode")
    chat.enter(f"/load {path}", "loaded (")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    assert "It is a red square." in chat.enter("Four?", "decode")


def test_foreign_files_leave_the_conversation_as_it_is(chat: Chat, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    hostile = dataclasses.replace(talk(), bundle="\x1b]0;evil\x07", cache=None)
    write_conversation(whole, hostile, HERE)
    data = whole.read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    (tmp_path / "flipped").write_bytes(data.replace(b'"version":1', b'"version":9'))
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    chat.enter("One?", "decode")
    for name in ("cut", "flipped", "empty", "pipe", ".", "nothing"):
        shown = chat.enter(f"/load {tmp_path / name}", "error: ")
        assert "\x1b]0" not in shown
    chat.enter("/stats", "1 question\r")
    shown = chat.enter(f"/load {whole}", "computes it again")
    assert r"\x1b]0;evil\x07" in shown and "\x1b]0" not in shown


def test_prompts_are_no_part_of_a_file(tmp_path: Path) -> None:
    """Standard input is a terminal, and standard output is not."""
    master, slave = os.openpty()
    out = tmp_path / "answers"
    with out.open("w") as file:
        command = [sys.executable, "-c", PROGRAM]
        child = subprocess.Popen(command, stdin=slave, stdout=file, stderr=subprocess.PIPE)
        os.write(master, b"One?\n/exit\n")
        _, errors = child.communicate(timeout=120)
    os.close(master)
    os.close(slave)
    assert child.returncode == 0 and b"\n> " in errors
    assert out.read_text() == "It is a red square.\n"
