"""What `handglass run` refuses, before or after the model is loaded."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from cli_model import FakeModel, replace_model

from handglass.errors import MismatchError


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    return replace_model(monkeypatch)


def test_options_that_the_model_lacks_are_refused_before_a_question(
    handglass: Any, model: FakeModel
) -> None:
    result = handglass("run", "-m", "bundle", "-p", "Q", "--max-slices", "99")
    assert result.code == 2 and "max_slices=99 must be 1 to 9" in result.err
    assert len(model.asked) == 1, "loaded alone"
    assert handglass("run", "-m", "bundle", "-p", "Q", "--max-slices", "0").code == 2


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--image", "no-such.png"], 3, "no-such.png"),
        (["--image", __file__], 3, "test_cli_run_refused.py"),
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


def test_mismatch_is_exit_code_5(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, threads: int | None = None, device: str | None = None) -> None:
        raise MismatchError("lib.so: the sha256 differs from the manifest")

    monkeypatch.setattr("handglass.load", load, raising=False)
    assert handglass("run", "-m", "bundle", "-p", "Q", "--json").json["error"]["exit_code"] == 5
