"""The slash commands of `handglass chat` and what happens when the context is full, with a fake
model."""

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted_model
from cli_model import TIMINGS, FakeModel, FakeStream, red_picture
from manifests import square
from scripted_model import MANIFEST

from handglass.cli import chat
from handglass.cli.answer import Speaker
from handglass.cli.chat_files import load
from handglass.cli.clipboard import Pasted
from handglass.cli.conversation import Conversation
from handglass.runtime.answer.generate import ContextFullError
from handglass.runtime.answer.model import Answer, Model
from handglass.runtime.answer.saved_conversation import SavedConversation, SavedShown, SavedTurn
from handglass.runtime.answer.saved_file import write_conversation
from handglass.runtime.prompt.chat_template import MARK
from handglass.runtime.prompt.preprocess import Prepared

Talk = Callable[..., Any]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    return fake


@pytest.fixture
def talk(handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Runs `handglass chat` with these lines, from a pipe or as on a terminal."""

    def run(*lines: object, flags: tuple[str, ...] = (), on_terminal: bool = False) -> Any:
        text = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", Terminal() if on_terminal else io.StringIO(text))
        monkeypatch.setattr(chat, "TerminalLines", lambda *_: map(str, lines))
        return handglass("chat", "-m", "bundle", *flags)

    return run


def asked(model: FakeModel) -> list[list[str]]:
    """The turns of each question, without the marks of pictures."""
    return [[t["content"].replace(MARK, "") for t in turns] for turns, _, _ in model.asked]


def test_undo_takes_back_pictures_and_turns(talk: Talk, model: FakeModel, tmp_path: Path) -> None:
    red = red_picture(tmp_path)
    result = talk("one", red, "two", "/undo", "three", red, "/undo", "four")
    assert asked(model)[2] == ["one", "A red 圆.", "three"]
    assert [len(images) for _, images, _ in model.asked] == [0, 1, 1, 1]
    assert "taken back: 'two'; its pictures wait for the next" in result.err
    assert "red.png: not shown" in result.err
    assert talk("/undo").code == 2


def test_retry_asks_the_same_with_the_next_seed(
    talk: Talk, model: FakeModel, tmp_path: Path
) -> None:
    red = red_picture(tmp_path)
    result = talk("one", red, "two", "/retry", "/retry", "three", flags=("--seed", "5"))
    assert asked(model)[1:4] == [["one", "A red 圆.", "two"]] * 3
    assert [options["seed"] for _, _, options in model.asked] == [5, 5, 6, 7, 5]
    assert [len(images) for _, images, _ in model.asked] == [0, 1, 1, 1, 1]
    assert len(asked(model)[-1]) == 5 and result.out.count("red") == 5
    assert talk("/retry").code == 2


def test_retry_in_json(talk: Talk, tmp_path: Path) -> None:
    out = talk(red_picture(tmp_path), "one", "/retry", flags=("--json",)).out
    first, second = map(json.loads, out.splitlines())
    assert (second["prompt"], second["images"]) == (first["prompt"], first["images"]) == ("one", 1)


def test_the_system_prompt_changes_from_the_first_turn_on(talk: Talk, model: FakeModel) -> None:
    model.manifest.prompt.roles = ("user", "assistant", "system")
    lines = ("one", "/system Be brief.", "two", "/system", "/system -", "three")
    result = talk(*lines, flags=("--system", "First."))
    assert [turns[:-1] for turns in asked(model)] == [
        ["First."],
        ["Be brief.", "one", "A red 圆."],
        ["one", "A red 圆.", "two", "A red 圆."],
    ]
    assert "instructions: Be brief." in result.err and "no instructions" in result.err


def test_a_model_without_a_system_role(talk: Talk) -> None:
    result = talk("/system Be brief.")
    assert result.code == 2 and "no system role" in result.err


def test_stats(talk: Talk, model: FakeModel, tmp_path: Path) -> None:
    lines = ("/stats", red_picture(tmp_path), "one", "two", "/stats")
    text = talk(*lines).err
    assert "0 questions" in text and "2 questions, 1 picture\n" in text
    assert "context: 211 of 4,096 positions (5%)" in text
    assert "prompts: 166 tokens computed, 0 reused" in text and "answers: 6 tokens" in text
    found = json.loads(talk(*lines, flags=("--json",)).out.splitlines()[-1])["stats"]
    assert (found["questions"], found["shown"], found["computed_tokens"]) == (2, 1, 166)
    assert found["last"]["prefill_tokens"] == 83 and found["peak_mb"] > 1


class Full(FakeModel):
    """A model whose context holds three messages; `cuts`: a longer prompt leaves room to begin."""

    cuts = False

    def chat(self, messages: Any, images: Any, *, stream: bool, **options: Any) -> FakeStream:
        if len(messages) > 3 and not self.cuts:
            raise ContextFullError(900, 512)
        answering = super().chat(messages, images, stream=stream, **options)
        return Cut(answering) if len(messages) > 3 else answering


class Cut(FakeStream):
    def __init__(self, whole: FakeStream) -> None:
        super().__init__(["A re"], "length")

    def finish(self) -> Answer:
        return Answer("A re", (7,), "length", TIMINGS, cut_by="context")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, model: FakeModel) -> Full:
    fake = Full()
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    return fake


def test_when_full_forget(talk: Talk, full: Full, tmp_path: Path) -> None:
    lines = (red_picture(tmp_path), "one", "two", "three", "/stats")
    result = talk(*lines, flags=("--when-full", "forget"))
    assert result.code == 0
    assert asked(full)[-1] == ["two", "A red 圆.", "three"] and not full.asked[-1][1]
    assert "the oldest question and its answer were forgotten" in result.err
    assert "2 questions, 1 forgotten" in result.err


class TooLong(FakeModel):
    """A model whose context holds no question of many words."""

    def chat(self, messages: Any, images: Any, *, stream: bool, **options: Any) -> FakeStream:
        if " " in messages[-1]["content"]:
            raise ContextFullError(900, 512)
        return super().chat(messages, images, stream=stream, **options)


def test_a_question_that_never_fits_makes_nothing_forgotten(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = TooLong()
    monkeypatch.setattr("handglass.load", lambda path, **_: fake, raising=False)
    lines = ("one", "two", "far too long", "/stats", "three")
    result = talk(*lines, flags=("--when-full", "forget"), on_terminal=True)
    assert "what was forgotten is back" in result.err and "2 questions\n" in result.err
    assert asked(fake)[-1] == ["one", "A red 圆.", "two", "A red 圆.", "three"]


def test_when_full_forget_in_the_middle_of_an_answer(talk: Talk, full: Full) -> None:
    full.cuts = True
    result = talk("one", "two", "three", flags=("--when-full", "forget"))
    assert [len(turns) for turns in asked(full)] == [1, 3, 5, 3]
    assert result.out.splitlines()[-1] == "A red 圆."
    kept = talk("one", "two", "three", flags=("--when-full", "stop"))
    assert kept.code == 0 and kept.out.splitlines()[-1] == "A re"
    assert "the context of this bundle is full" in kept.err


def test_when_full_stop(talk: Talk, full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    assert talk("one", "two", "three").code == 3
    monkeypatch.setattr(chat, "confirmed", lambda question: pytest.fail("it asked"))
    result = talk("one", "two", "three", flags=("--when-full", "stop"), on_terminal=True)
    assert result.code == 0 and "/undo its last turn" in result.err
    refused = talk("one", flags=("--when-full", "ask"))
    assert refused.code == 2 and "needs a terminal" in refused.err
    assert talk("one", flags=("--when-full", "never")).code == 2


class Broken(FakeStream):
    """Ctrl-C comes after the pieces."""

    def with_thoughts(self) -> Any:
        yield from self.pieces
        raise KeyboardInterrupt


@pytest.fixture
def breaks(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """What is said before Ctrl-C in each answer; None: nothing happens."""
    plan: list[list[str] | None] = []

    def stream(pieces: list[str], reason: str) -> FakeStream:
        broken = plan.pop(0) if plan else None
        return FakeStream(pieces, reason) if broken is None else Broken(broken, reason)

    monkeypatch.setattr("cli_model.FakeStream", stream)
    return plan


def test_an_interrupted_answer_is_kept(
    talk: Talk, model: FakeModel, breaks: list[Any], tmp_path: Path
) -> None:
    breaks += [["A re"], [], None, ["Other"]]
    red = red_picture(tmp_path)
    lines = (red, "one", red, "two", "/retry", "/retry", "three")
    result = talk(*lines, on_terminal=True)
    assert result.code == 0
    assert "interrupted; the answer so far is kept" in result.err
    assert "interrupted before the answer began; /retry asks again" in result.err
    assert "interrupted; the earlier answer is kept" in result.err
    kept = ["one", "A re", "two", "A red 圆.", "three"]
    assert asked(model)[-1] == kept
    assert [len(images) for _, images, _ in model.asked] == [1, 2, 2, 2, 2]


def test_ctrl_c_in_a_pipe_ends_the_command(talk: Talk, breaks: list[Any]) -> None:
    breaks += [["A re"]]
    assert talk("one", "two").code == 130


def test_saving_needs_a_name_and_loading_a_file(talk: Talk, tmp_path: Path) -> None:
    assert talk("/save").code == 2
    assert talk("/load").code == 2
    path = tmp_path / "notes"
    path.write_text("no conversation")
    result = talk(f"/load {path}")
    assert result.code == 3 and str(path) in result.err


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_file_to_begin_with_is_checked_before_the_model_is_loaded(
    talk: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    monkeypatch.setattr("handglass.load", None)
    path = tmp_path / "notes"
    for content, words in ((None, "No such file"), (b"no conversation", "safetensors")):
        if content is not None:
            path.write_bytes(content)
        result = talk("one", flags=("--load", str(path)), on_terminal=on_terminal)
        assert result.code == 3 and str(path) in result.err and words in result.err


@pytest.mark.parametrize(
    "line", ["/save a\0b", "/load a\0b", "/image a\0b", "/exit now", "/reset x"]
)
def test_arguments_that_cannot_be(talk: Talk, line: str) -> None:
    result = talk(line)
    assert result.code == 2 and line.split()[0] in result.err and "\0" not in result.err


def test_help_and_completion_know_every_command(talk: Talk) -> None:
    from handglass.cli.chat_commands import COMMANDS, TABLE, WITH_PATHS
    from handglass.cli.terminal import completions

    text = talk("/help").err
    assert all(f"\n{command.usage} " in f"\n{text}" for command in TABLE)
    assert completions("/re", COMMANDS, WITH_PATHS) == ["/retry ", "/reset "]
    folder = Path(__file__).parent
    assert completions(f"/load {folder}/test_cli_chat_c", COMMANDS, WITH_PATHS) == [
        f"/load {folder}/{Path(__file__).name}"
    ]


def test_no_command_is_missing_its_act(talk: Talk) -> None:
    from handglass.cli.chat_commands import COMMANDS, Commands

    acts = Commands(Conversation(None, None))._acts  # type: ignore[arg-type]
    assert tuple(acts) == COMMANDS


def test_paste_shows_what_the_clipboard_has(
    talk: Talk, model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = red_picture(tmp_path)
    found = [Pasted(red.read_bytes()), Pasted(files=(red, red))]
    monkeypatch.setattr("handglass.cli.clipboard.pasted", lambda: found.pop(0))
    result = talk("/paste", "one", "/paste", "two")
    assert [[image.size for image in images] for _, images, _ in model.asked] == [
        [(30, 20)],
        [(30, 20)] * 3,
    ]
    assert "the pasted picture: shown" in result.err


def test_loading_for_a_model_that_cuts_differently(tmp_path: Path) -> None:
    """Pictures are cut anew from their files, videos and instructions are left out, in words."""
    path, original = tmp_path / "talk", red_picture(tmp_path).read_bytes()
    other = dataclasses.replace(MANIFEST, vision=square(28, 14, 4, 2, (0.25, 0.5, 0.5)))
    cut = tuple(scripted_model.model().prepare(original).tiles)
    picture = SavedShown("red.png", False, (cut,), original)
    video = SavedShown("clip.mp4", True, (cut, cut))
    turn = SavedTurn(f"{MARK}one{MARK}?", "Red.", (video, picture))
    lost = dataclasses.replace(picture, name="lost.png", original=b"damaged")
    saved = SavedConversation("its bundle", "Be brief.", (turn,), (lost, picture))
    write_conversation(path, saved, MANIFEST)
    fake = scripted_model.model()
    same, differs = (
        Model(fake.session, fake.tokenizer, manifest) for manifest in (MANIFEST, other)
    )
    talk = Conversation(same, Speaker())
    load(talk, path)
    shown = [item.prepared for item in talk.waiting]
    assert [p.tiles[0].digest for p in shown if isinstance(p, Prepared)] == [cut[0].digest] * 2
    talk = Conversation(differs, Speaker())
    text = load(talk, path)
    assert [(e.question, len(e.shown)) for e in talk.exchanges] == [(f"one{MARK}?", 1)]
    assert [item.name for item in talk.waiting] == ["red.png"]
    for words in ("clip.mp4: left out", "lost.png: left out: ", "no system role"):
        assert words in text
