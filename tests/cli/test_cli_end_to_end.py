"""The verbs in sequence on a small random model: compile, inspect, run, chat, verify."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.effect_noise((90, 40), 60).save(path)
    return path


def test_inspect(handglass: Any, small_bundle: Path) -> None:
    found = handglass("inspect", small_bundle, "--json").json
    assert found["ok"] is True
    assert found["scheme"] == {"language": "f32", "vision": "f32"}
    assert found["state"]["context"] == 128
    assert any((small_bundle.parent / "ir").iterdir()), "--dump-ir wrote nothing"


def test_run_answers_and_reports_timings(handglass: Any, small_bundle: Path, picture: Path) -> None:
    flags = ("-m", small_bundle, "-p", "What is it?", "--image", picture, "-n", 6)
    text, as_json = handglass("run", *flags), handglass("run", *flags, "--json")
    assert (text.code, as_json.code) == (0, 0)
    assert text.out == as_json.json["text"] + "\n"
    assert "image 1: " in text.err and "(5 tokens)" in text.err
    timings = as_json.json["timings"]
    assert len(as_json.json["tokens"]) == 6
    assert timings["decode_tokens"] == 5
    assert timings["encode_ms"][0] > 0 < timings["peak_mb"]
    assert timings["prefill_tok_s"] > 0 < timings["decode_tok_s"]


def test_no_stream_gives_the_same_answer(handglass: Any, small_bundle: Path) -> None:
    flags = ("-m", small_bundle, "-p", "Hello", "-n", 5)
    assert handglass("run", *flags).out == handglass("run", *flags, "--no-stream").out


def test_seed_repeats_a_sampled_answer(handglass: Any, small_bundle: Path) -> None:
    flags = ("-m", small_bundle, "-p", "Hello", "-n", 8, "--temp", 2, "--json", "--seed")
    first, again, other = (handglass("run", *flags, seed).json["tokens"] for seed in (1, 1, 2))
    assert first == again != other


def test_first_turn_of_chat_is_what_run_answers(
    handglass: Any, small_bundle: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = handglass("run", "-m", small_bundle, "-p", "Hello", "--image", picture, "-n", 5, "--json")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"/image {picture}\nHello\nAnd now?\n"))
    lines = handglass("chat", "-m", small_bundle, "-n", 5, "--json").out.splitlines()
    turns = [json.loads(line) for line in lines]
    assert turns[0]["tokens"] == ran.json["tokens"]
    assert turns[0]["timings"]["reused_tokens"] == 0 < turns[1]["timings"]["reused_tokens"]


def test_prompt_that_does_not_fit(handglass: Any, small_bundle: Path) -> None:
    result = handglass("run", "-m", small_bundle, "-p", "long " * 200)
    assert result.code == 3
    assert "128" in result.err


def test_verify_holds_for_the_checkpoint(
    handglass: Any, small_bundle: Path, small_checkpoint: Path, picture: Path, tmp_path: Path
) -> None:
    flags = ("--reference", small_checkpoint, "--image", picture, "--json")
    result = handglass("verify", small_bundle, *flags)
    assert result.code == 0, result.out + result.err
    assert result.json["ok"] is True
    assert {"stage", "snr_db", "ok"} <= result.json["stages"][0].keys()

    saved = tmp_path / "verified.json"
    saved.write_text(result.out)
    shown = handglass("report", small_bundle, "--no-measure", "--json", "--parity", saved).json
    layers = {layer["layer"]: layer["snr_db"] for layer in shown["parity"]["layers"]}
    assert shown["parity"]["ok"] is True and set(layers.values()) == {300.0}, "float32 is exact"
    assert {"vpm.encoder.layers.0", "llm.model.layers.0", "llm.model.layers.1"} <= layers.keys()


def test_existing_bundle_is_not_replaced_by_default(
    handglass: Any, small_bundle: Path, small_checkpoint: Path
) -> None:
    before = (small_bundle / "manifest.json").stat().st_mtime_ns
    assert handglass("compile", "-m", small_checkpoint, "-o", small_bundle).code == 2
    assert (small_bundle / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--target", "x86-64-v9"), "x86-64-v"),
        (("--quantization", "w3"), "w4"),
        (("-c", "100000"), "100000"),
    ],
)
def test_errors_name_the_value_or_the_valid_ones(
    flags: tuple[str, str], text: str, handglass: Any, small_checkpoint: Path, tmp_path: Path
) -> None:
    result = handglass("compile", "-m", small_checkpoint, "-o", tmp_path / "out", *flags)
    assert result.code == 2
    assert text in result.err
    assert list(tmp_path.iterdir()) == []


def test_not_a_checkpoint(handglass: Any, tmp_path: Path) -> None:
    assert handglass("compile", "-m", tmp_path / "none", "-o", tmp_path / "out").code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "phase"),
    [
        pytest.param(signal.SIGTERM, "schedule", marks=pytest.mark.large),
        (signal.SIGINT, "codegen"),
        pytest.param(signal.SIGINT, "schedule", marks=pytest.mark.large),
        pytest.param(signal.SIGTERM, "codegen", marks=pytest.mark.large),
    ],
)
def test_interrupted_compile_leaves_nothing(
    number: signal.Signals, phase: str, text_checkpoint: Path, tmp_path: Path
) -> None:
    """In `codegen` the signal arrives while C++ calls back into Python."""
    output = tmp_path / "out"
    command = [sys.executable, "-m", "handglass.cli.main", "compile", "-m", str(text_checkpoint)]
    child = subprocess.Popen([*command, "-o", str(output)], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert any(line.startswith(phase) for line in child.stderr), "the phase was never reached"
    assert any(tmp_path.iterdir()), "nothing to clean up yet"
    time.sleep(0.3)
    err = errors_until_it_ends(child, number)
    assert child.returncode == 128 + number
    assert "Traceback" not in err and "bug in handglass" not in err
    assert list(tmp_path.iterdir()) == []


def errors_until_it_ends(child: subprocess.Popen[str], number: signal.Signals) -> str:
    """Signal again, as people press Ctrl-C again: Z3, which TVM asks for proofs, has a handler of
    its own for SIGINT while it runs, which gives up the proof and forgets the signal."""
    for _ in range(20):
        os.kill(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=3)[1]
    child.kill()
    raise AssertionError("it did not end")


@pytest.mark.large
def test_a_recompiled_bundle_does_not_run_the_old_library(
    handglass: Any, small_bundle: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(small_bundle, bundle)
    flags = ("run", "-m", bundle, "-p", "Hello", "-n", 4, "--json")
    before = handglass(*flags)  # its library stays loaded in this process
    compiled = handglass(
        "compile", "-m", small_checkpoint, "-o", bundle, "--quantization", "f16", "--overwrite"
    )
    after = handglass(*flags)
    assert (before.code, compiled.code, after.code) == (0, 0, 0), after.err
    assert len(after.json["tokens"]) == 4
