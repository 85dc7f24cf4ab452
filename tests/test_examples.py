"""The short examples do what their first line says; the model answers correctly."""

import importlib
from pathlib import Path

import pytest
from serve_process import serving

ROOT = Path(__file__).parents[1]
SHORT = (
    *("ask_about_a_picture", "stream_an_answer", "openai_client", "compare_two_bundles"),
    "watch_folder",
    "nearest_texts",  # run by tests/models/test_sentence_encoders.py
    "run_an_onnx_encoder",
)
PICTURE = ROOT / "examples" / "pictures" / "scene-4132-0.png"
QUESTION = "What is this picture?"


@pytest.fixture
def caption(demo_bundle: Path) -> str:
    import handglass

    return str(handglass.load(demo_bundle).chat(QUESTION, images=[PICTURE]).text)


def run(name: str, *arguments: object) -> None:
    importlib.import_module(name).main(*map(str, arguments))


@pytest.mark.parametrize("name", SHORT)
def test_they_are_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text("utf-8").splitlines()) < 30


@pytest.mark.compiler
@pytest.mark.slow
def test_ask_and_compare(
    demo_bundle: Path, caption: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ask_about_a_picture", demo_bundle, PICTURE, QUESTION)
    assert capsys.readouterr().out == f"{caption}\n"
    run("compare_two_bundles", demo_bundle, demo_bundle, QUESTION, PICTURE)
    assert capsys.readouterr().out.count(f"{demo_bundle}: {caption}\n") == 2


@pytest.mark.compiler
@pytest.mark.slow
def test_stream(demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("stream_an_answer", demo_bundle, "What is 3 plus 4?", "What is red in Chinese?")
    assert capsys.readouterr().out == "7.\n红色。\n"


def test_openai_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("openai", "uvicorn", "llguidance"):
        pytest.importorskip(package)
    from serve_fakes import ANSWER, FAKES

    with serving([FAKES, "{}"], tmp_path / "log") as server:
        for more in ([], [PICTURE]):
            run("openai_client", server.url, *more)
            assert capsys.readouterr().out == f"{ANSWER}\n"
