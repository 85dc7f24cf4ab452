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
def report(small_bundle: Path) -> Any:
    """Two samples of every row that fits in a context of 128."""
    command = ["bench", str(small_bundle), "--samples", "2", "--json"]
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


def test_table(handglass: Any, small_bundle: Path) -> None:
    result = handglass("bench", small_bundle, "--quick")
    assert result.code == 0
    assert "tg64@0" in result.out and "tok/s" in result.out and "%" in result.out
    assert "pp512" not in result.out and "tg64@2048" not in result.out


def test_interrupt_prints_what_was_measured(small_bundle: Path) -> None:
    command = ["bench", str(small_bundle), "--samples", "100000", "--json"]
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


def test_kernels_text(handglass: Any, small_bundle: Path) -> None:
    result = handglass("bench", small_bundle, "--kernels", "--samples", "1")
    assert result.code == 0
    assert "decode@127" in result.out and "cpu-attention" in result.out
    after = handglass("run", "-m", small_bundle, "-p", "Hello", "-n", "2", "--json")
    assert len(after.json["tokens"]) == 2, "the hook is gone"
