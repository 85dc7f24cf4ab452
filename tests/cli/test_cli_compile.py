"""`handglass compile` and `verify` with a fake compiler that records its arguments."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handglass.cli.compile import as_text
from handglass.compiler.build import Report
from handglass.compiler.parity.ratios import Stage
from handglass.errors import InputError

pytestmark = pytest.mark.compiler


RECORDS: dict[str, Any] = {
    "line": "records: 1 of 2 kernels",
    "kernels": [
        {"function": "matmul1", "share": 0.75, "record": "ab" * 32, "choices": {"panels": 4}},
        {"function": "norm", "share": 0.25, "record": None, "choices": {}},
    ],
    "skipped": [{"record": "cd" * 32, "about": "matmul", "reason": "no such choice"}],
    "refused": [{"file": "a.jsonl", "line": 3, "reason": "not UTF-8"}],
}
REPORT = Report({"export": 1.5, "link": 0.25}, 8_900_000, [("matmul1", "matmul", 4)], RECORDS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of compile_model; a key `error` makes it fail."""
    seen: dict[str, Any] = {}

    def compile_model(
        model: Path, output: Path, *, progress: Callable[[str, int, int], None], **options: Any
    ) -> Report:
        if "error" in seen:
            raise seen["error"]
        progress("quantise", 3, 3)
        seen.update(model=model, output=output, **options)
        return REPORT

    monkeypatch.setattr("handglass.compiler.build.compile_model", compile_model)
    return seen


def test_defaults(handglass: Any, asked: dict[str, Any]) -> None:
    result = handglass("compile", "-m", "checkpoint", "-o", "out")
    assert result.code == 0
    assert result.out.startswith("out: 9 MB, compiled in 1.8 s\n")
    assert "records: 1 of 2 kernels; 2 skipped" in result.out
    assert "quantise 3/3" in result.err
    assert asked == {
        "model": Path("checkpoint"),
        "output": Path("out"),
        "mmproj": None,
        "target": "host",
        "quantization": "w4a8",
        "vision_quantization": None,
        "head_quantization": None,
        "kv_cache": None,
        "attention": None,
        "context": None,
        "dump_ir": None,
        "overwrite": False,
        "allow_pickle": False,
        "bundle_runtime": True,
        "records": (),
        "use_records": True,
    }


def test_every_flag_reaches_the_compiler(handglass: Any, asked: dict[str, Any]) -> None:
    flags = (
        "--target x86-64-v3 --quantization w4 --vision-quantization bf16 -c 512 --dump-ir ir "
        "--overwrite --allow-pickle --no-runtime --mmproj eyes.gguf --attention f32"
    )
    handglass("compile", "-m", "checkpoint", "-o", "out", *flags.split())
    assert (asked["target"], asked["quantization"], asked["vision_quantization"]) == (
        *("x86-64-v3", "w4"),
        "bf16",
    )
    assert (asked["context"], asked["dump_ir"]) == (512, Path("ir"))
    assert asked["mmproj"] == Path("eyes.gguf") and asked["attention"] == "f32"
    assert (asked["overwrite"], asked["allow_pickle"], asked["bundle_runtime"]) == (
        *(True, True),
        False,
    )


def test_report(handglass: Any, asked: dict[str, Any]) -> None:
    out = handglass("compile", "-m", "checkpoint", "-o", "out", "--report").out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "export 1.5 s" in lines
    assert "matmul1 matmul 4" in lines
    assert "matmul1 75.0% abababababab panels 4" in lines
    assert "norm 25.0% default" in lines
    assert "skipped cdcdcdcdcdcd: no such choice" in lines
    assert "a.jsonl:3: not UTF-8" in lines


def test_records(handglass: Any, asked: dict[str, Any]) -> None:
    handglass("compile", "-m", "m", "-o", "out", "--records", "a", "--records", "b")
    assert (asked["records"], asked["use_records"]) == ([Path("a"), Path("b")], True)
    handglass("compile", "-m", "m", "-o", "out", "--no-records")
    assert (asked["records"], asked["use_records"]) == ((), False)
    result = handglass("compile", "-m", "m", "-o", "out", "--records", "a", "--no-records")
    assert result.code == 2
    assert "--no-records" in result.err


def test_json(handglass: Any, asked: dict[str, Any]) -> None:
    assert handglass("compile", "-m", "checkpoint", "-o", "out", "--json").json == {
        "bundle": "out",
        "phases": {"export": 1.5, "link": 0.25},
        "bundle_bytes": 8_900_000,
        "schedules": [["matmul1", "matmul", 4]],
        "records": RECORDS,
        "reads_pictures": True,
        "reads_texts": True,
        "generates": True,
    }


@pytest.mark.parametrize("reads_pictures", [True, False])
def test_the_suggested_question_has_a_picture_if_the_model_reads_them(reads_pictures: bool) -> None:
    text = as_text(Path("my out"), replace(REPORT, reads_pictures=reads_pictures), False)
    picture = " --image PICTURE" if reads_pictures else ""
    assert text.splitlines()[-1].endswith(f"handglass run -m 'my out'{picture} -p QUESTION")
    encoder = replace(REPORT, generates=False, reads_pictures=reads_pictures, reads_texts=False)
    hint = as_text(Path("my out"), encoder, False).splitlines()[-1]
    assert hint == f"to use it: handglass embed 'my out'{picture}"


def test_failure_keeps_its_class(handglass: Any, asked: dict[str, Any]) -> None:
    asked["error"] = InputError("checkpoint: no config.json")
    result = handglass("compile", "-m", "checkpoint", "-o", "out")
    assert (result.code, result.out) == (3, "")
    assert result.err == "error: checkpoint: no config.json\n"


def test_without_tvm_the_error_names_the_package(
    handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handglass.cli.checks.has_compiler", lambda: False)
    result = handglass("compile", "-m", "checkpoint", "-o", "out")
    assert result.code == 4
    assert "handglass[compile]" in result.err


STAGES = [Stage("pixels", float("inf"), 120.0, True), Stage("vision", 41.25, 40.0, True)]
LOSSY = [Stage("embed", 30.0, 40.0, True, 50.0)]
FAULTS = [Stage("resampler", 30.0, 40.0, False), Stage("logits", 20.0, 40.0, False)]


def fake_verify(monkeypatch: pytest.MonkeyPatch, stages: list[Stage]) -> list[Any]:
    calls: list[Any] = []

    def verify(
        bundle: Path,
        checkpoint: Path,
        images: list[Path] | None,
        progress: Any,
        pickle: bool,
        device: str | None,
        mmproj: Path | None,
    ) -> list[Stage]:
        calls.append((bundle, checkpoint, images, pickle, mmproj))
        return stages

    monkeypatch.setattr("handglass.compiler.verify.verify", verify)
    return calls


def test_verify_passes(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_verify(monkeypatch, STAGES)
    flags = ("--reference", "checkpoint", "--image", "a.png", "--mmproj", "eyes.gguf")
    result = handglass("verify", "out", *flags)
    assert result.code == 0
    assert calls == [(Path("out"), Path("checkpoint"), [Path("a.png")], False, Path("eyes.gguf"))]
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[1:] == [
        "pixels exact 120.0 dB ok",
        "vision 41.2 dB 40.0 dB ok",
        "every stage meets its floor",
    ]


def test_verify_passes_what_the_storage_loses(
    handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_verify(monkeypatch, STAGES + LOSSY)
    result = handglass("verify", "out", "--reference", "checkpoint")
    *_, embed, last = [" ".join(line.split()) for line in result.out.splitlines()]
    assert (result.code, embed) == (0, "embed 30.0 dB 40.0 dB 50.0 dB LOSSY")
    assert "no fault" in last and "in embed:" in last
    as_json = handglass("verify", "out", "--reference", "checkpoint", "--json")
    assert (as_json.code, as_json.json["ok"], as_json.json["lossy"]) == (0, True, ["embed"])


def test_verify_names_the_first_stage_at_fault(
    handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_verify(monkeypatch, STAGES + LOSSY + FAULTS)
    result = handglass("verify", "out", "--reference", "checkpoint")
    assert result.code == 5
    assert calls[0][2] is None
    assert result.out.endswith(": resampler\n")
    as_json = handglass("verify", "out", "--reference", "checkpoint", "--json")
    assert (as_json.code, as_json.json["ok"]) == (5, False)
    assert as_json.json["first_fault"] == "resampler"
    pixels = as_json.json["stages"][0]
    assert (pixels["stage"], pixels["floor_db"], pixels["ok"]) == ("pixels", 120.0, True)
    assert pixels["snr_db"] > 120.0
