"""`handglass run` with a fake model: flags, streams, footer, JSON, imports."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_model import FakeModel, red_picture, replace_model

from handglass.cli.answer import Printer
from handglass.cli.footer import footer, sampling_text
from handglass.runtime.answer.model import MAX_TOKENS
from handglass.runtime.answer.thoughts import Thought


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    return replace_model(monkeypatch)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return red_picture(tmp_path)


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


def test_a_cut_answer_says_so(handglass: Any, model: FakeModel) -> None:
    model.reason = "length"
    assert "cut after 3 tokens; -n" in handglass("run", "-m", "bundle", "-p", "Q").err
    result = handglass("run", "-m", "bundle", "-p", "Q", "--json")
    assert result.json["finish_reason"] == "length" and result.err == ""


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
        "video_frames": (0, 0),
        "prefill_tokens": 5,
        "prefill_tok_s": 99.96,
        "decode_tokens": 0,
        "decode_tok_s": 0.0,
        "peak_mb": 312.4,
    }
    assert footer(timings) == (
        "image 2: 90 ms (64 tokens) | prefill 5 tok, 100.0 tok/s | decode 0 tok | peak 312 MB"
    )


def test_the_footer_counts_pictures_and_videos_apart() -> None:
    timings = {
        "encode_ms": (5.0, 812.4, 0.0, 90.0, 7.0),
        "image_tokens": (64, 768, 128, 64, 64),
        "video_frames": (0, 12, 2, 0, 1),
        "prefill_tokens": 0,
        "prefill_tok_s": 0.0,
        "decode_tokens": 0,
        "decode_tok_s": 0.0,
        "peak_mb": 312.4,
    }
    assert footer(timings).split(" | ")[:-3] == [
        "image 1: 5 ms (64 tokens)",
        "video 1: 812 ms (12 frames, 768 tokens)",
        "image 2: 90 ms (64 tokens)",
        "video 3: 7 ms (1 frame, 64 tokens)",
    ]


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
