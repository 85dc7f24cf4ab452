"""`/save` and `/load` with a compiled model: nothing is computed again by the same bundle."""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_model import red_picture

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


def chat(
    handglass: Any,
    monkeypatch: pytest.MonkeyPatch,
    bundle: Path,
    *lines: object,
    flags: tuple[object, ...] = (),
) -> tuple[list[dict[str, Any]], str]:
    """The turns, and what was said beside them."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    result = handglass("chat", "-m", bundle, "-n", 4, "--json", *flags)
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()], result.err


def test_a_loaded_conversation_computes_nothing_again(
    handglass: Any, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, red = tmp_path / "talk", red_picture(tmp_path)
    talk = (handglass, monkeypatch, small_bundle)
    whole, _ = chat(*talk, red, "One?", "Two?", "Three?")
    chat(*talk, red, "One?", "Two?", f"/save {path}")
    (third,), _ = chat(*talk, f"/load {path}", "Three?")
    (flag,), _ = chat(*talk, "Three?", flags=("--load", path))
    assert flag["tokens"] == third["tokens"]
    assert flag["timings"]["reused_tokens"] == third["timings"]["reused_tokens"]
    assert third["tokens"] == whole[2]["tokens"]
    for key in ("reused_tokens", "prefill_tokens", "encode_ms"):
        assert third["timings"][key] == whole[2]["timings"][key]
    assert third["timings"]["encode_ms"] == [0.0]
    assert third["timings"]["reused_tokens"] > 8


def test_another_bundle_computes_the_turns_again(
    handglass: Any, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "talk", tmp_path / "other"
    shutil.copytree(small_bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["prompt"]["defaults"] = {"temp": 0.0}  # the same model: its code and weights are
    (other / "manifest.json").write_text(json.dumps(manifest))
    talk = (handglass, monkeypatch)
    chat(*talk, small_bundle, red_picture(tmp_path), "One?", f"/save {path}")
    (same,), _ = chat(*talk, other, f"/load {path}", "Two?")
    assert same["timings"]["reused_tokens"] > 8
    (other / "notes.txt").write_text("more")
    digest = hashlib.sha256(b"more").hexdigest()
    manifest["files"]["notes.txt"] = {"sha256": digest, "size": 4}
    (other / "manifest.json").write_text(json.dumps(manifest))
    (again,), _ = chat(*talk, other, f"/load {path}", "Two?")
    assert again["tokens"] == same["tokens"]
    assert again["timings"]["reused_tokens"] == 0 < again["timings"]["encode_ms"][0]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"/load {path}\n"))
    assert "another bundle (bundle)" in handglass("chat", "-m", other).err


def test_words_for_people(
    handglass: Any, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, red = tmp_path / "talk", red_picture(tmp_path)
    lines = f"{red}\nOne?\n{red}\n/save {path}\n/load {path}\n/save\n/stats\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    text = handglass("chat", "-m", small_bundle, "-n", 2).err
    assert text.count("saved (1 question, 2 pictures, ") == 2
    assert "loaded (1 question, 2 pictures)" in text
    assert "positions need not be computed again\n> One?\n" in text
    assert "1 question, 1 picture\n" in text
