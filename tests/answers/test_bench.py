"""`handglass bench` on a small compiled bundle: all rows, their limits, and skipped rows."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.runtime.bundle.probes import TILE_UNITS

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

ROWS = ["encode", "pp64", "pp512", "tg64@0", "tg64@512", "tg64@2048", "ttft", "load", "peak_memory"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "measured.md"


@pytest.fixture(scope="module")
def report(small_bundle: Path, shared: Path) -> Any:
    """Two samples of every row that fits in a context of 128."""
    command = ["bench", str(small_bundle), "--samples", "2", "--settle", "2", "--json"]
    command += ["--share", str(shared), "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "handglass.cli.main", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_row_is_there(report: Any) -> None:
    assert [row["row"] for row in report["rows"]] == ROWS
    measured = [row for row in report["rows"] if row["min"] is not None]
    assert [row["row"] for row in measured] == [
        *("encode", "pp64", "tg64@0", "ttft", "load", "peak_memory")
    ]
    for row in measured:
        assert row["samples"] == 2
        assert 0 < row["min"] <= row["median"] <= row["p90"]


def test_rows_that_do_not_fit_say_why(report: Any) -> None:
    notes = {row["row"]: row.get("note", "") for row in report["rows"]}
    assert notes["pp512"] == "needs a context of 512, this bundle has 128"
    assert notes["tg64@2048"] == "needs a context of 2112, this bundle has 128"
    assert notes["encode"] == "one tile of 56x56"


def test_fractions_are_below_the_limit(report: Any) -> None:
    fractions = {row["row"]: row["limit_fraction"] for row in report["rows"]}
    for name in ("encode", "pp64", "ttft"):
        assert 0 < fractions[name] < 1
    # Two layers of width 128 stay in the CPU cache, which is faster than memory.
    assert fractions["tg64@0"] > 0
    assert fractions["load"] is None and fractions["peak_memory"] is None


def test_decoding_is_compared_with_reading_its_bytes(report: Any) -> None:
    (row,) = (row for row in report["rows"] if row["row"] == "tg64@0")
    share = f"{row['limit_fraction']:.0%}"
    assert re.fullmatch(rf"{share} of reading the [0-9.e-]+ GB of each token", row["note"])


def test_what_a_figure_is_worth_nothing_without(report: Any) -> None:
    assert report["threads"] >= 1 and report["device"] and report["revision"]
    assert report["scheme"] == {"language": "f32", "vision": "f32"}
    without_tiles = set(report["limits"]) - set(TILE_UNITS.values())
    assert without_tiles == {"read_gb_s", "fma_gflop_s", "dot4_gop_s", "dot8_gop_s"}
    for limit in report["limits"].values():
        if limit["median"] is not None:  # no row of a float32 bundle uses the integer probes
            assert 0 < limit["min"] <= limit["median"] <= limit["p90"]
    assert report["limits"]["read_gb_s"]["median"] and report["limits"]["fma_gflop_s"]["median"]
    assert report["interrupted"] is False


def test_peak_memory_is_the_childs_own(report: Any) -> None:
    (row,) = [row for row in report["rows"] if row["row"] == "peak_memory"]
    assert 20e6 < row["median"] < 250e6, "the parent holds the array of the read probe"


def test_the_speed_of_the_machine_is_watched(report: Any) -> None:
    found = report["steadiness"]
    assert found["reference"] == "fma_gflop_s" and found["became_steady"] in (True, False)
    assert 1 <= found["waited_s"] < 10, "at least five references, at most about two seconds"
    assert found["before"] > 0 and found["after"] > 0 and 0 <= found["drift"] < 5


def test_the_figures_are_shared_without_names(report: Any, shared: Path) -> None:
    heading, _, line = shared.read_text().splitlines()
    assert heading.startswith("| machine |") and heading.count("|") == line.count("|")
    assert str(shared.parent) not in line and report["date"] in line


@pytest.mark.large
def test_a_bundle_against_itself(handglass: Any, small_bundle: Path) -> None:
    flags = ["--against", small_bundle, "--quick", "--samples", "1", "--json"]
    found = handglass("bench", small_bundle, *flags).json
    assert found["a"]["scheme"] == found["b"]["scheme"]
    rows = {row["row"]: row for row in found["rows"]}
    for name in ("encode", "pp64", "tg64@0", "load"):
        row = rows[name]
        assert 0 < row["low"] <= row["ratio"] <= row["high"] and row["rounds"] == 1
        assert row["verdict"] == "too few rounds", "one round proves nothing"
    assert rows["tg64@512"]["ratio"] is None and "needs a context" in rows["tg64@512"]["note"]


def test_a_page_of_a_bundle(handglass: Any, small_bundle: Path, tmp_path: Path) -> None:
    page, saved = tmp_path / "r.html", tmp_path / "saved.json"
    result = handglass("report", small_bundle, "--quick", "--json", "-o", page)
    measured = result.json["measured"]
    assert [phase["phase"] for phase in measured["phases"]] == [
        "encode",
        "prefill 64",
        "decode@127",
    ]
    for phase in measured["phases"]:
        kernels, parts = phase["kernels"], phase["parts"]
        assert all(k["limit_fraction"] > 0 for k in kernels if k["operations"])
        in_parts = {kernel["kernel"] for part in parts for kernel in part["kernels"]}
        assert in_parts == {k["kernel"] for k in kernels} - {"(virtual machine)"}
    decode = measured["phases"][-1]["parts"]
    assert max(part["blocks"] for part in decode) in result.json["bundle"]["layers"]
    assert 0 < result.json["memory"]["workspace"] < 10e6 and result.json["memory"]["peak"] is None
    text = page.read_text()
    assert 'class="picture roofline"' in text and text.count('class="picture flame"') == 3

    saved.write_text(result.out)
    beside = handglass("report", small_bundle, saved, "--no-measure", "--json").json
    assert beside["b"] == result.json and beside["a"]["measured"] is None


@pytest.mark.large
def test_table(handglass: Any, small_bundle: Path) -> None:
    result = handglass("bench", small_bundle, "--quick")
    assert result.code == 0
    assert "tg64@0" in result.out and "tok/s" in result.out and "%" in result.out
    assert "pp512" not in result.out and "tg64@2048" not in result.out


def test_interrupt_prints_what_was_measured(small_bundle: Path) -> None:
    command = ["bench", str(small_bundle), "--samples", "10000", "--settle", "0", "--json"]
    child = subprocess.Popen(
        [sys.executable, "-m", "handglass.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("measure"):
            break
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=120)
    report = json.loads(out)
    assert child.returncode == 130
    assert report["interrupted"] is True
    assert [row["row"] for row in report["rows"]] == ROWS


def test_a_bundle_that_is_none(handglass: Any, tmp_path: Path) -> None:
    assert handglass("bench", tmp_path).code == 3


def test_kernels(handglass: Any, small_bundle: Path) -> None:
    report = handglass("bench", small_bundle, "--kernels", "--samples", "2", "--json").json
    assert [phase["phase"] for phase in report["phases"]] == ["encode", "prefill 64", "decode@127"]
    for phase in report["phases"]:
        rows = phase["kernels"]
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert rows == sorted(rows, key=lambda row: -row["share"])
        by_name = {row["kernel"]: row for row in rows}
        assert by_name["(virtual machine)"]["bytes"] is None
        matmuls = [row for row in rows if row["rule"] == "cpu-matmul"]
        assert matmuls and all(row["gflop_s"] > 0 and row["limit_fraction"] > 0 for row in matmuls)
        assert sum(row["total_ms"] for row in rows) < 1.5 * phase["observed_ms"]["p90"]


@pytest.mark.large
def test_kernels_text(handglass: Any, small_bundle: Path) -> None:
    result = handglass("bench", small_bundle, "--kernels", "--samples", "1")
    assert result.code == 0
    assert "decode@127" in result.out and "cpu-attention" in result.out
    after = handglass("run", "-m", small_bundle, "-p", "Hello", "-n", "2", "--json")
    assert len(after.json["tokens"]) == 2, "the hook is gone"
