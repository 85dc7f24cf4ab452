"""`handglass chat` from a pipe and on a terminal, with a fake model."""

import errno
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_model import FakeModel
from PIL import Image

from handglass.cli import chat
from handglass.errors import InputError
from handglass.runtime.answer.generate import ContextFullError
from handglass.runtime.answer.thoughts import Thought
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


def test_a_newline_after_pictures_where_the_model_has_one(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    model.manifest.prompt.between = "\n"
    talk(handglass, monkeypatch, *(f"/image {path}" for path in pictures), "which?")
    assert model.asked[0][0][0]["content"] == f"{MARK}\n{MARK}\nwhich?"


def test_thoughts_are_no_part_of_the_next_prompt(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.pieces = [Thought("Hm."), "Red."]
    result = talk(handglass, monkeypatch, "one", "two", flags=("--think", "--json"))
    assert [json.loads(line)["thinking"] for line in result.out.splitlines()] == ["Hm."] * 2
    assert [turn["content"] for turn in model.asked[1][0]] == ["one", "Red.", "two"]
    assert model.asked[1][2] == {"thinking": True}


def test_every_turn_has_the_system_turn(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.manifest.prompt.roles = {"user", "assistant", "system"}
    talk(handglass, monkeypatch, "one", "/reset", "two", "three", flags=("--system", "Short."))
    roles = [[turn["role"][0] for turn in asked[0]] for asked in model.asked]
    assert roles == [["s", "u"], ["s", "u"], ["s", "u", "a", "u"]]
    assert {asked[0][0]["content"] for asked in model.asked} == {"Short."}


def test_slices_of_shown_pictures(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    lines = (f"/image {pictures[0]}", "one")
    talk(handglass, monkeypatch, *lines, flags=("--max-slices", "3"))
    assert model.prepared == [3]


def test_videos_stay_with_their_question(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The one on the command line is shown with the first question."""
    frames = tmp_path / "some frames"
    frames.mkdir()
    Image.new("RGB", (8, 8)).save(frames / "1.png")
    flags = ("--video", str(frames), "--frames", "5")
    lines = ("one", f"/video {frames}", f"/video '{frames}'", "two")
    result = talk(handglass, monkeypatch, *lines, flags=flags)
    assert result.code == 0
    assert result.err.count("some frames: 2 frames (128 tokens) shown with the next") == 3
    users = [turn["content"] for turn in model.asked[1][0] if turn["role"] == "user"]
    assert users == [f"{MARK}one", f"{MARK}{MARK}two"]
    assert [len(asked[1]) for asked in model.asked] == [1, 3]
    assert [options.frames for options in model.prepared] == [5] * 3
    assert talk(handglass, monkeypatch, "/video").code == 2


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
    assert all(name in result.err for name in ("/image", "/video", "/reset", "/help", "/exit"))


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


def test_json_is_one_line_per_turn(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    result = talk(
        *(handglass, monkeypatch, f"/image {pictures[1]}", "one", "/reset", "two"),
        flags=("--json",),
    )
    turns = [json.loads(line) for line in result.out.splitlines()]
    assert [(turn["prompt"], turn["images"]) for turn in turns] == [("one", 1), ("two", 0)]
    assert turns[0]["text"] == "A red 圆."
    assert turns[0]["finish_reason"] == "stop"
    assert turns[0]["timings"]["decode_tokens"] == 128
    assert result.err == ""


def test_turns_before_an_error_are_not_lost(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = talk(handglass, monkeypatch, "one", "/image no.png", "two", flags=("--json",))
    turn, failure = (json.loads(line) for line in result.out.splitlines())
    assert turn["prompt"] == "one"
    assert failure["error"]["kind"] == "input" and result.code == 3


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:]
import handglass
from cli_model import FakeModel
from handglass.cli.main import main

class Killed(FakeModel):
    def chat(self, *arguments, **options):
        if self.asked:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().chat(*arguments, **options)

handglass.load = lambda path, **_: Killed()
sys.argv = ["handglass", "chat", "-m", "bundle", "--json"]
main()
"""


def test_a_killed_process_leaves_the_turns_before() -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(folder.parent / "support")],
        input="one\ntwo\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode < 0
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["one"]


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
    monkeypatch.setattr(chat, "TerminalLines", lambda *_: iter(lines))
    result = handglass("chat", "-m", "bundle")
    assert result.code == 0
    for text in ("9000 tokens", "/what", "interrupted"):
        assert text in result.err
    # Unanswered questions do not enter the history; the picture stays queued.
    assert [turn["content"] for turn in fake.asked[0][0]] == [f"{MARK}fine"]


class Unreadable(io.StringIO):
    def __next__(self) -> str:  # type: ignore[override]
        raise OSError(errno.EIO, "Input/output error")


def test_input_that_cannot_be_read(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Unreadable())
    result = handglass("chat", "-m", "bundle")
    assert (result.code, result.err) == (3, "error: standard input: Input/output error\n")


def test_a_full_context_names_reset(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Failing(None, ContextFullError(900, 512))
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    result = talk(handglass, monkeypatch, "one", "two")
    assert result.code == 3
    for text in ("900", "512", "/reset"):
        assert text in result.err


@pytest.mark.parametrize("agrees", [True, False])
def test_a_full_context_may_drop_the_oldest_turns(
    agrees: bool, handglass: Any, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    fake = Failing(None, None, ContextFullError(900, 512), None)
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    lines = [f"/image {pictures[0]}", "one", f"/image {pictures[1]}", "two", "three"]
    monkeypatch.setattr(chat, "TerminalLines", lambda *_: iter(lines))
    asked: list[str] = []

    def confirmed(question: str) -> bool:
        asked.append(question)
        return agrees

    monkeypatch.setattr(chat, "confirmed", confirmed)
    result = handglass("chat", "-m", "bundle")
    assert result.code == 0 and len(asked) == 1 and "900" in asked[0]
    assert ("/reset" in result.err.partition("leave")[2]) is not agrees
    if agrees:
        turns, images, _ = fake.asked[-1]
        assert [turn["content"] for turn in turns] == [f"{MARK}two", "A red 圆.", "three"]
        assert [image.size for image in images] == [(16, 16)]


def test_a_cut_answer_says_so(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.reason = "length"
    assert "cut after 3 tokens; -n" in talk(handglass, monkeypatch, "one").err
    model.reason = "stop"
    assert "cut" not in talk(handglass, monkeypatch, "one").err


def entered(path: Path) -> dict[str, str]:
    """How desktops type a dragged path."""
    return {
        "plain": str(path),
        "single quotes": f"'{path}'",
        "double quotes": f'"{path}"',
        "quotes and a space": f"'{path}' ",
        "backslashes": str(path).replace(" ", "\\ ").replace("#", "\\#"),
        "URL": path.as_uri(),
    }


@pytest.mark.parametrize("way", entered(Path("/x")))
@pytest.mark.parametrize("command", ["/image ", ""])
def test_dragged_paths_are_pictures(
    way: str, command: str, handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "my 圆 #1?.png"
    Image.new("RGB", (5, 4)).save(path)
    result = talk(handglass, monkeypatch, f"{command}{entered(path)[way]}", "what?")
    assert result.code == 0
    ((turns, images, _),) = model.asked
    assert turns[0]["content"] == f"{MARK}what?"
    assert [image.size for image in images] == [(5, 4)]
    assert path.name in result.err


def test_several_dragged_pictures_and_none(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]
) -> None:
    red, blue = pictures
    talk(handglass, monkeypatch, f"'{red}' {blue.as_uri()}", f"is {blue} blue?", "don't")
    assert [len(images) for _, images, _ in model.asked] == [2, 2]
    assert model.asked[0][0][-1]["content"] == f"{MARK}{MARK}is {blue} blue?"


def test_an_unknown_home_is_an_error(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = talk(handglass, monkeypatch, "/image ~nosuch/x.png")
    assert result.code == 3 and "~nosuch/x.png" in result.err
