"""`handglass report` without running a model: a written bundle, saved reports, files refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_content import made_up
from written_bundle import FILES, MANIFEST, write

from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.pages.content import as_json

STAGE = {"stage": "logits", "snr_db": 20.0, "floor_db": 12.0, "ok": True, "arithmetic_db": 60.0}
VERIFIED = {"ok": True, "first_fault": None, "lossy": [], "stages": [STAGE], "layers": []}

AS_SAVED = json.loads(json.dumps(as_json(made_up())))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "bundle"
    write(folder)
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "saved.json"
    file.write_text(json.dumps(as_json(made_up())))
    return file


def test_a_bundle_that_does_not_run_here(bundle: Path, tmp_path: Path, handglass: Any) -> None:
    """The library of this one is no library, and it has no report.json."""
    page = tmp_path / "r.html"
    result = handglass("report", bundle, "-o", page, "--quick", "--json")
    assert result.code == 0, result.err
    assert result.json["measured"] is None and "report.json" in result.json["not_measured"]
    assert result.json["memory"]["state"] == 2 * 16 * 4 * 4 and result.json["kernels"] == []
    assert "not measured" in page.read_text().lower()


def test_a_damaged_list_of_kernels_is_told(tmp_path: Path, handglass: Any) -> None:
    with BundleWriter(tmp_path / "odd") as writer:
        for name, data in {**FILES, "report.json": b'{"format": NaN}'}.items():
            writer.add_file(name, data)
        writer.finish(MANIFEST)
    found = handglass("report", tmp_path / "odd", "--json")
    assert found.code == 0, found.err
    assert "report.json" in found.json["not_measured"] and found.json["kernels"] == []


def test_a_bundle_for_another_target(tmp_path: Path, handglass: Any) -> None:
    """What needs no device is there: memory, and which kernels have records."""
    tuned = {"function": "matmul", "rule": "cpu-dot", "calls": 2, "patterns": ["dot4"]}
    kernels = [{**tuned, "work": None, "record": "r-17"}, {**tuned, "function": "x", "work": None}]
    shares = [{"function": "matmul", "share": 0.75, "device": "a board"}, {"function": 3}, "odd"]
    written = {"format": "handglass-report", "versions": {}, "phases": {}, "kernels": kernels}
    report = json.dumps({**written, "records": {"kernels": shares}}).encode()
    with BundleWriter(tmp_path / "pi") as writer:
        for name, data in {**FILES, "report.json": report}.items():
            writer.add_file(name, data)
        target = TargetEntry("pi", "m68k-linux-gnu", "cortex-a76", ("dotprod",))
        writer.finish(replace(MANIFEST, target=target))
    page = tmp_path / "r.html"
    found = handglass("report", tmp_path / "pi", "-o", page, "--json").json
    assert found["measured"] is None and "m68k" in found["not_measured"]
    assert found["kernels"][0] == {
        "kernel": "matmul",
        "rule": "cpu-dot",
        "share": 0.75,
        "record": "r-17",
        "device": "a board",
    }
    assert "1 of 2 kernels are scheduled by tuning records, 75%" in page.read_text()


def test_json_alone_writes_no_file(
    bundle: Path, tmp_path: Path, handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = handglass("report", bundle, "--no-measure", "--json")
    assert result.json["not_measured"] == "--no-measure was given"
    assert list(tmp_path.iterdir()) == []
    assert handglass("report", bundle, "--no-measure").code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_bundle_beside_a_saved_report(bundle: Path, saved: Path, handglass: Any) -> None:
    page = saved.parent / "two.html"
    verified = saved.parent / "v.json"
    verified.write_text(json.dumps(VERIFIED))
    flags = ["--no-measure", "--json", "-o", page, "--parity", verified]
    result = handglass("report", bundle, saved, *flags).json
    assert result["a"]["parity"]["stages"] == [STAGE] and result["b"] == AS_SAVED
    ratios = {(pair["group"], pair["name"]): pair["ratio"] for pair in result["ratios"]}
    assert ratios["memory", "weights"] == pytest.approx(8_000_000 / 30)
    assert "Side by side" in page.read_text()


def test_the_plot_alone(saved: Path, handglass: Any) -> None:
    svg = saved.parent / "roofline.svg"
    assert handglass("report", saved, "--svg", svg).code == 0
    assert "<svg xmlns=" in svg.read_text() and "a processor, 2 cores" in svg.read_text()
    assert handglass("report", saved, "--svg", svg).code == 0, "ours may be replaced"


def test_other_files_are_not_replaced(saved: Path, handglass: Any) -> None:
    mine = saved.parent / "mine.html"
    mine.write_text("my page")
    result = handglass("report", saved, "-o", mine)
    assert result.code == 2 and "exists and is no report" in result.err
    assert mine.read_text() == "my page"


def test_wrong_arguments(bundle: Path, saved: Path, handglass: Any) -> None:
    assert handglass("report", bundle, bundle, bundle).code == 2
    assert handglass("report", saved, "-o", saved.parent / "no" / "r.html").code == 2
    assert handglass("report", saved, "--svg", "a.svg", "-o", "b.html").code == 2
    assert handglass("report", bundle, "--parity", saved, "--reference", bundle).code == 2
    assert handglass("report", saved, "--reference", bundle, "--json").code == 2
    damaged = saved.parent / "damaged.json"
    damaged.write_text("{}")
    result = handglass("report", damaged, "--json")
    assert result.code == 3 and "damaged.json" in result.out
    nothing = handglass("report", bundle, "--no-measure", "--svg", saved.parent / "x.svg")
    assert nothing.code == 3 and "nothing was measured" in nothing.err


@pytest.mark.compiler
def test_the_checkpoint_is_compared_now(
    bundle: Path, handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tvm", reason="compares by the compiler")
    from handglass.compiler import verify
    from handglass.compiler.parity.ratios import Stage

    asked = []

    def compare(*arguments: Any, **options: Any) -> list[Stage]:
        asked.append(arguments[:2])
        return [Stage("logits", float("inf"), 12.0, True)]

    monkeypatch.setattr(verify, "verify", compare)
    found = handglass("report", bundle, "--no-measure", "--reference", "checkpoint", "--json").json
    assert asked == [(bundle, Path("checkpoint"))]
    assert found["parity"]["stages"][0]["snr_db"] == 300.0


@pytest.mark.compiler
@pytest.mark.slow
def test_one_process_measures_and_compares(small_bundle: Path, small_checkpoint: Path) -> None:
    """The compiler and the bundle both bring TVM's runtime, which a process can hold once."""
    flags = ("--quick", "--samples", "1", "--json", "--reference")
    command = [sys.executable, "-m", "handglass.cli.main", "report", str(small_bundle), *flags]
    done = subprocess.run([*command, str(small_checkpoint)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["measured"]["phases"] and all(s["ok"] for s in found["parity"]["stages"])
