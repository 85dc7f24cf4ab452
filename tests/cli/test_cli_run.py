"""`handglass run` with a fake model: flags, streams, footer, JSON, imports."""

import io
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from handglass.cli.answer import Printer
from handglass.cli.footer import footer, sampling_text
from handglass.errors import MismatchError, UsageError
from handglass.runtime.answer.generate import Timings
from handglass.runtime.answer.model import MAX_TOKENS, Answer
from handglass.runtime.answer.thoughts import Thought
from handglass.runtime.prompt.preprocess import read_picture
from handglass.runtime.prompt.video.reader import PreparedVideo

TIMINGS = Timings(
    load_s=0.5,
    encode_ms=(812.4,),
    image_tokens=(64,),
    prefill_tokens=83,
    reused_tokens=0,
    prefill_tok_s=190.2,
    decode_tokens=128,
    decode_tok_s=31.23,
    ttft_ms=1250.0,
    peak_mb=1210.0,
)


class FakeStream:
    def __init__(self, pieces: list[str], reason: str) -> None:
        self.pieces = pieces
        self.reason = reason

    def watch(self, report: Callable[[int, int], None]) -> None:
        """Nothing is encoded."""

    def with_thoughts(self) -> Iterator[str]:
        return iter(self.pieces)

    def finish(self) -> Answer:
        text = "".join(p for p in self.pieces if not isinstance(p, Thought))
        thinking = "".join(p for p in self.pieces if isinstance(p, Thought))
        return Answer(text, (7, 8, 9), self.reason, TIMINGS, thinking=thinking)


class FakeModel:
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.prepared: list[Any] = []
        self.manifest = SimpleNamespace(prompt=SimpleNamespace(between="", sampling={}))
        self.pieces: list[str] = ["A red ", "圆", "."]
        self.reason = "stop"

    def prepare(self, picture: Path, max_slices: int | None = None) -> Image.Image:
        self.prepared.append(max_slices)
        return read_picture(picture)

    def prepare_video(self, video: Path, max_slices: int | None, options: Any) -> PreparedVideo:
        self.prepared.append(options)
        tile = SimpleNamespace(rows=64)
        return PreparedVideo([[tile], [tile]], None)  # type: ignore[arg-type]

    def check(self, max_slices: int | None, thinking: bool | None, video: Any = None) -> None:
        if video is not None and video.fps == 99:
            raise UsageError("this model (x) takes no videos")
        if max_slices == 99:
            raise UsageError("max_slices=99 must be 1 to 9 for this model")

    def chat(self, messages: Any, images: Any, *, stream: bool, **options: Any) -> FakeStream:
        assert stream
        self.asked.append((messages, list(images), options))
        return FakeStream(self.pieces, self.reason)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()

    def load(path: Path, threads: int | None = None, device: str | None = None) -> FakeModel:
        fake.asked.append((path, threads))
        return fake

    monkeypatch.setattr("handglass.load", load, raising=False)
    return fake


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


def test_answer_and_footer_use_separate_streams(handglass: Any, model: FakeModel) -> None:
    result = handglass("run", "-m", "bundle", "-p", "What is it?")
    assert (result.code, result.out) == (0, "A red 圆.\n")
    assert result.err == (
        "image 1: 812 ms (64 tokens) | prefill 83 tok, 190 tok/s | "
        "decode 128 tok, 31.2 tok/s | peak 1.21 GB\n"
    )


def test_no_stream_prints_the_same(handglass: Any, model: FakeModel) -> None:
    streamed = handglass("run", "-m", "bundle", "-p", "What is it?")
    assert handglass("run", "-m", "bundle", "-p", "What is it?", "--no-stream") == streamed


def test_json_is_one_object(handglass: Any, model: FakeModel) -> None:
    result = handglass("run", "-m", "bundle", "-p", "What is it?", "--json")
    answer = result.json
    assert result.err == ""
    assert list(answer) == ["text", "thinking", "tokens", "finish_reason", "timings"]
    assert (answer["text"], answer["tokens"], answer["finish_reason"]) == (
        *("A red 圆.", [7, 8, 9]),
        "stop",
    )
    assert answer["timings"].keys() >= {
        *("load_s", "encode_ms", "prefill_tokens", "prefill_tok_s", "decode_tokens"),
        *("decode_tok_s", "ttft_ms", "peak_mb", "device_mb"),
    }


def test_every_flag_reaches_the_model(handglass: Any, model: FakeModel, picture: Path) -> None:
    flags = ["-n", "9", "-t", "2", "--temp", "0.5", "--top-p", "0.9", "--top-k", "40"]
    flags += ["--repeat-penalty", "1.1", "--seed", "3", "--max-slices", "4", "--think"]
    handglass("run", "-m", "bundle", "-p", "Q", "--image", picture, "--image", picture, *flags)
    assert model.asked[0] == (Path("bundle"), 2)
    messages, images, options = model.asked[1]
    assert (messages, images) == ("Q", [picture, picture])
    sampling = {"temp": 0.5, "top_p": 0.9, "top_k": 40, "repeat_penalty": 1.1, "seed": 3}
    assert options == {"max_tokens": 9, **sampling, "max_slices": 4, "thinking": True}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "a.gif"


def test_videos_reach_the_model(
    handglass: Any, model: FakeModel, video: Path, picture: Path
) -> None:
    flags = ["--frames", "8", "--fps", "2.5", "--packing", "3"]
    shown = ["--video", video, "--image", picture, "--video", video.parent]
    assert handglass("run", "-m", "bundle", "-p", "Q", *shown, *flags).code == 0
    messages, images, options = model.asked[1]
    assert (messages, images) == ("Q", [picture])
    given = {"videos": [video, video.parent], "frames": 8, "fps": 2.5, "packing": 3}
    assert options == given


def test_bad_videos_end_before_anything_is_loaded(
    handglass: Any, model: FakeModel, tmp_path: Path, picture: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for path, named in (
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path / "empty", "the folder has no pictures"),
        (picture, "is a single picture; show it with --image"),
    ):
        result = handglass("run", "-m", "bundle", "-p", "Q", "--video", path)
        assert result.code == 3 and f"video {str(path)!r}: {named}" in result.err
    assert model.asked == []


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--frames", "3"), "need --video"),
        (("--fps", "0.5"), "need --video"),
        (("--frames", "0"), "'--frames'"),
        (("--fps", "-1"), "fps=-1.0 must be"),
        (("--packing", "99"), "packing=99 must be"),
    ],
)
def test_video_flags_out_of_place(
    handglass: Any, model: FakeModel, flags: tuple[str, str], named: str
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", *flags)
    assert result.code == 2 and named in result.err and model.asked == []


def test_models_without_videos_are_refused_before_a_question(
    handglass: Any, model: FakeModel, video: Path
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", "--video", video, "--fps", "99")
    assert result.code == 2 and "takes no videos" in result.err
    assert len(model.asked) == 1, "loaded alone"


def test_options_that_the_model_lacks_are_refused_before_a_question(
    handglass: Any, model: FakeModel
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", "--max-slices", "99")
    assert result.code == 2 and "max_slices=99 must be 1 to 9" in result.err
    assert len(model.asked) == 1, "loaded alone"
    assert handglass("run", "-m", "bundle", "-p", "Q", "--max-slices", "0").code == 2


def test_the_system_turn_comes_first(handglass: Any, model: FakeModel) -> None:
    model.manifest.prompt.roles = {"user", "assistant", "system"}
    handglass("run", "-m", "bundle", "-p", "Q", "--system", "Be short.", "--seed", "1")
    messages, _, options = model.asked[1]
    assert [(m["role"], m["content"]) for m in messages] == [("system", "Be short."), ("user", "Q")]
    assert options == {"seed": 1}
    model.manifest.prompt.roles = {"user", "assistant"}
    refused = handglass("run", "-m", "bundle", "-p", "Q", "--system", "")
    assert refused.code == 2 and "no system role" in refused.err


def test_no_think_reaches_the_model(handglass: Any, model: FakeModel) -> None:
    handglass("run", "-m", "bundle", "-p", "Q", "--no-think")
    assert model.asked[1][2] == {"thinking": False}


THOUGHTS = [Thought("Is it "), Thought("red?"), "It is ", "red."]


@pytest.mark.parametrize("flags", [(), ("--no-stream",)])
def test_a_pipe_receives_no_thoughts(
    handglass: Any, model: FakeModel, flags: tuple[str, ...]
) -> None:
    model.pieces = THOUGHTS
    assert handglass("run", "-m", "bundle", "-p", "Q", *flags).out == "It is red.\n"


def test_json_keeps_thoughts_apart(handglass: Any, model: FakeModel) -> None:
    model.pieces = THOUGHTS
    answer = handglass("run", "-m", "bundle", "-p", "Q", "--json").json
    assert (answer["text"], answer["thinking"]) == ("It is red.", "Is it red?")


def test_on_a_terminal_thoughts_are_dim(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    printer = Printer()
    for piece in THOUGHTS:
        printer.print(piece)
    dim = "".join(f"\x1b[2m{piece}\x1b[22m" for piece in ("Is it ", "red?"))
    assert capsys.readouterr().out == f"{dim}\n\nIt is red."


def test_defaults_are_left_to_the_bundle(handglass: Any, model: FakeModel) -> None:
    handglass("run", "-m", "bundle", "-p", "Q")
    assert model.asked[1][2] == {}
    assert f"[default: the bundle's, else {MAX_TOKENS}]" in " ".join(
        handglass("run", "--help").out.split()
    )


def test_prompt_from_standard_input(
    handglass: Any, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What\nis it?\n"))
    handglass("run", "-m", "bundle", "-p", "-")
    assert model.asked[1][0] == "What\nis it?"


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--image", "no-such.png"], 3, "no-such.png"),
        (["--image", __file__], 3, "test_cli_run.py"),
        (["--temp", "-1"], 2, "temp=-1.0"),
        (["--top-p", "0"], 2, "top_p=0.0"),
        (["--seed", "-4"], 2, "seed=-4"),
    ],
)
def test_invalid_questions_load_nothing(
    flags: list[str], code: int, text: str, handglass: Any, model: FakeModel
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", *flags)
    assert result.code == code
    assert text in result.err
    assert model.asked == []


def test_missing_bundle_is_bad_input(handglass: Any, tmp_path: Path) -> None:
    assert handglass("run", "-m", tmp_path / "none", "-p", "Q").code == 3


@pytest.mark.parametrize(
    "verb", [("run", "-p", "Q", "-m"), ("chat", "-m"), ("bench",), ("inspect",), ("doctor",)]
)
def test_a_checkpoint_must_be_compiled_first(
    verb: tuple[str, ...], handglass: Any, model: FakeModel, tmp_path: Path
) -> None:
    folder = tmp_path / "my checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    for given in (folder, folder / "model.safetensors"):
        result = handglass(*verb, given)
        assert result.code == 3
        command = shlex.split(result.err.strip().partition("first: ")[2])
        assert command[:4] == ["handglass", "compile", "-m", str(folder)]


def test_a_name_on_a_hub_must_be_compiled_first(handglass: Any, model: FakeModel) -> None:
    result = handglass("run", "-m", "openbmb/MiniCPM-V", "-p", "Q")
    assert result.code == 3
    assert "hf download openbmb/MiniCPM-V" in result.err
    assert "handglass compile -m MiniCPM-V" in result.err


def test_a_cut_answer_says_so(handglass: Any, model: FakeModel) -> None:
    model.reason = "length"
    assert "cut after 3 tokens; -n" in handglass("run", "-m", "bundle", "-p", "Q").err
    result = handglass("run", "-m", "bundle", "-p", "Q", "--json")
    assert result.json["finish_reason"] == "length" and result.err == ""


def test_mismatch_is_exit_code_5(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, threads: int | None = None, device: str | None = None) -> None:
        raise MismatchError("lib.so: the sha256 differs from the manifest")

    monkeypatch.setattr("handglass.load", load, raising=False)
    assert handglass("run", "-m", "bundle", "-p", "Q", "--json").json["error"]["exit_code"] == 5


SAMPLED = {"temp": 0.7, "top_p": 0.8, "top_k": 100}
MODEL = SAMPLED | {"repeat_penalty": 1.05}


@pytest.mark.parametrize(
    ("defaults", "flags", "text"),
    [
        ({}, {}, ""),
        ({}, {"max_tokens": 9}, ""),
        (MODEL, {}, "temp 0.7 top-p 0.8 top-k 100 repeat-penalty 1.05 (model)"),
        (
            MODEL,
            {"top_p": 0.5},
            "temp 0.7 top-k 100 repeat-penalty 1.05 (model), top-p 0.5 (flags)",
        ),
        (MODEL, {"temp": 0.0}, "greedy (flags), repeat-penalty 1.05 (model)"),
        ({}, {"top_k": 4}, "greedy (default)"),
        ({}, {"temp": 1.5, "seed": 3}, "temp 1.5 seed 3 (flags)"),
    ],
)
def test_sampling_in_the_footer(
    defaults: dict[str, float], flags: dict[str, float], text: str
) -> None:
    assert sampling_text(defaults, flags) == text


def test_the_footer_shows_the_sampling(handglass: Any, model: FakeModel) -> None:
    model.manifest.prompt.sampling = MODEL
    result = handglass("run", "-m", "bundle", "-p", "Q", "--temp", "0")
    assert result.err.endswith("peak 1.21 GB | greedy (flags), repeat-penalty 1.05 (model)\n")


def test_footer_of_a_short_answer() -> None:
    timings = {
        "encode_ms": (0.0, 90.0),
        "image_tokens": (64, 64),
        "prefill_tokens": 5,
        "prefill_tok_s": 99.96,
        "decode_tokens": 0,
        "decode_tok_s": 0.0,
        "peak_mb": 312.4,
    }
    assert footer(timings) == (
        "image 2: 90 ms (64 tokens) | prefill 5 tok, 100.0 tok/s | decode 0 tok | peak 312 MB"
    )


IMPORTS = """
import sys
from handglass.cli.main import execute
code = execute(["run", "-m", "no-bundle", "-p", "Q"])
import handglass.runtime.answer.model
bad = [n for n in sys.modules if n.split(".")[0] in ("tvm", "torch", "onnx")]
bad += [n for n in sys.modules if n.startswith(("handglass.compiler", "handglass.schedules"))]
print(code, bad)
"""


def test_run_never_imports_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.stdout.strip() == "3 []", done.stderr
