"""`handglass chat` from a pipe and on a terminal, with a fake model."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_cli_run import FakeModel

from handglass.cli import chat
from handglass.errors import InputError
from handglass.runtime.prompt.chat_template import MARK


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    return fake


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "red square.png", tmp_path / "blue.png"]
    Image.new("RGB", (30, 20), "red").save(paths[0])
    Image.new("RGB", (16, 16), "blue").save(paths[1])
    return paths


def talk(
    handglass: Any, monkeypatch: pytest.MonkeyPatch, *lines: object, flags: tuple[str, ...] = ()
) -> Any:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return handglass("chat", "-m", "bundle", *flags)


def test_turns_grow(handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    result = talk(handglass, monkeypatch, "one", "", "two")
    assert (result.code, result.out) == (0, "A red 圆.\nA red 圆.\n")
    assert result.err.count("prefill 83 tok") == 2
    first, second = (asked[0] for asked in model.asked)
    assert [turn["content"] for turn in first] == ["one"]
    assert [turn["content"] for turn in second] == ["one", "A red 圆.", "two"]
    assert [turn["role"] for turn in second] == ["user", "assistant", "user"]


def test_pictures_stay_with_their_question(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    red, blue = pictures
    lines = ("hi", f"/image {red}", f"/image '{blue}'", "which?", f"/image {red}", f"and {MARK}?")
    talk(handglass, monkeypatch, *lines)
    assert [len(asked[1]) for asked in model.asked] == [0, 2, 3]
    users = [turn["content"] for turn in model.asked[2][0] if turn["role"] == "user"]
    assert users == ["hi", f"{MARK}{MARK}which?", f"and {MARK}?"]


def test_reset_and_exit(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    lines = (f"/image {pictures[0]}", "one", "/reset", "two", "/exit", "three")
    assert talk(handglass, monkeypatch, *lines).code == 0
    assert [len(asked[0]) for asked in model.asked] == [1, 1]
    assert [len(asked[1]) for asked in model.asked] == [1, 0]


def test_help(handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    result = talk(handglass, monkeypatch, "/help")
    assert result.out == ""
    assert all(name in result.err for name in ("/image", "/reset", "/help", "/exit"))


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("/imagine x", 2, "/imagine"),
        ("/image", 2, "/image PATH"),
        ("/image /no/such.png", 3, "/no/such.png"),
    ],
)
def test_an_error_in_a_pipe_ends_the_command(
    line: str,
    code: int,
    text: str,
    handglass: Any,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = talk(handglass, monkeypatch, line, "never asked")
    assert result.code == code
    assert text in result.err
    assert model.asked == []


def test_json_is_one_object(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    result = talk(
        *(handglass, monkeypatch, f"/image {pictures[1]}", "one", "/reset", "two"),
        flags=("--json",),
    )
    turns = result.json["turns"]
    assert [(turn["prompt"], turn["images"]) for turn in turns] == [("one", 1), ("two", 0)]
    assert turns[0]["text"] == "A red 圆."
    assert turns[0]["timings"]["decode_tokens"] == 128


def test_an_empty_answer_is_a_turn(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.pieces = []
    assert talk(handglass, monkeypatch, "one", "two").code == 0
    assert [turn["content"] for turn in model.asked[1][0]] == ["one", "", "two"]


class Failing(FakeModel):
    def __init__(self, *errors: BaseException | None) -> None:
        super().__init__()
        self.errors = list(errors)

    def chat(self, *arguments: Any, **options: Any) -> Any:
        if error := self.errors.pop(0):
            raise error
        return super().chat(*arguments, **options)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_conversation_continues(
    handglass: Any, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    fake = Failing(InputError("the prompt has 9000 tokens"), KeyboardInterrupt(), None)
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    lines = ["long", "/what", f"/image {pictures[0]}", "stopped", "fine"]
    monkeypatch.setattr(chat, "read_terminal", lambda: iter(lines))
    result = handglass("chat", "-m", "bundle")
    assert result.code == 0
    for text in ("9000 tokens", "/what", "interrupted"):
        assert text in result.err
    # Unanswered questions do not enter the history; the picture stays queued.
    assert [turn["content"] for turn in fake.asked[0][0]] == [f"{MARK}fine"]
