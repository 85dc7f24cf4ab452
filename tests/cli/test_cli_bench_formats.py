"""Figures as CSV, Markdown and a table, and the line that is shared: from made-up results."""

import csv
import io
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written_bundle import MANIFEST

from handglass.cli import share
from handglass.cli.bench import Format, show
from handglass.cli.bench_formats import csv_text, markdown_text
from handglass.cli.bench_setup import relation
from handglass.runtime.bundle.entries import ModelEntry

SPREAD = {"min": 1.0, "median": 2.0, "p90": 3.0}
STEADY = {
    "became_steady": False,
    "waited_s": 5.1,
    "reference": "fma_gflop_s",
    "before": 150.0,
    "between": SPREAD,
    "after": 120.0,
    "drift": 0.2,
    "drifted": True,
    "clock_mhz": {"min": 1800.0, "median": 2000.0, "p90": 2100.0},
    "throttled": 3,
    "hottest_celsius": 81.0,
    "limited": True,
}
ABOUT: dict[str, Any] = {
    "device": "A Processor, 2 cores",
    "gpu": None,
    "date": "2026-11-30",
    "revision": "v1-secret-3-g0123abc-dirty",
    "threads": 2,
    "versions": {"handglass": "0.1.0", "tvm_ffi": "0.1.14"},
    "scheme": {"language": "w4a8", "vision": "w7a8"},
    "limits": {"read_gb_s": SPREAD},
}


def row(name: str, unit: str, **more: Any) -> dict[str, Any]:
    return {"row": name, "unit": unit, **SPREAD, "limit_fraction": 0.5, **more}


ROWS = {
    **ABOUT,
    "interrupted": False,
    "steadiness": STEADY,
    "rows": [row("encode", "ms", samples=5, limit="fma", note="=cmd|' /C calc'!A0")],
}
KERNEL = {
    "phase": "decode@1",
    "kernel": "a|b*c",
    "rule": "r",
    "calls": 2.0,
    "total_ms": 1.5,
    "share": 0.5,
    "min_us": 1.0,
    "median_us": 2.0,
    "p90_us": 3.0,
    "bytes": 10.0,
    "operations": 20.0,
    "gb_s": 1.0,
    "gflop_s": 2.0,
    "limit": "read",
    "limit_fraction": 0.5,
}
PHASE = {"phase": "decode@1", "step_ms": SPREAD, "observed_ms": SPREAD, "kernels": [KERNEL]}
KERNELS = {**ABOUT, "interrupted": True, "steadiness": None, "phases": [PHASE]}
COMPARED = {
    "row": "encode",
    "unit": "ms",
    "a": SPREAD,
    "b": SPREAD,
    "ratio": 1.2,
    "low": 1.1,
    "high": 1.3,
    "rounds": 9,
    "verdict": "better",
}
AGAINST = {
    "a": ABOUT,
    "b": {**ABOUT, "scheme": {"language": "bf16"}},
    "interrupted": False,
    "steadiness": STEADY,
    "rows": [COMPARED],
}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, "same bundle"),
        ({"vocab_size": 7}, "same model"),
        ({"model": ModelEntry("Other", {})}, "different models"),
    ],
)
def test_a_comparison_says_what_its_ratios_mean(
    change: dict[str, Any], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert relation(MANIFEST, replace(MANIFEST, **change)) == found
    show({**AGAINST, "relation": found}, Format.table)
    told = capsys.readouterr().out
    assert ("the noise of this machine" in told) is (found == "same bundle")
    assert ("not the same work" in told) is (found == "different models")


@pytest.mark.parametrize("verb", ["bench", "report"])
def test_so_many_samples_are_refused(verb: str, handglass: Any, tmp_path: Path) -> None:
    refused = handglass(verb, tmp_path, "--samples", 10**9)
    assert refused.code == 2 and "--samples" in refused.err and "10000" in refused.err


def records(result: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(result))))


def test_csv_has_every_figure_with_its_conditions() -> None:
    (line,) = records(ROWS)
    assert (line["row"], line["median"], line["scheme"]) == (
        "encode",
        "2.0",
        "language=w4a8 vision=w7a8",
    )
    assert line["device"] == "A Processor, 2 cores" and line["date"] == "2026-11-30"
    (line,) = records(KERNELS)
    assert (line["kernel"], line["operations"], line["limit"]) == ("a|b*c", "20.0", "read")
    (line,) = records(AGAINST)
    assert (line["ratio"], line["low"], line["a_median"], line["b_scheme"]) == (
        *("1.2", "1.1", "2.0", "language=bf16"),
    )


def test_csv_computes_nothing() -> None:
    assert records(ROWS)[0]["note"].startswith("'=cmd")


@pytest.mark.parametrize("result", [ROWS, KERNELS, AGAINST])
def test_markdown_is_a_table(result: Any) -> None:
    lines = [line for line in markdown_text(result).splitlines() if line.startswith("|")]
    pipes = [line.replace("\\|", "").count("|") for line in lines]
    assert len(lines) == 3 and len(set(pipes)) == 1
    assert "a\\|b\\*c" in lines[2] if "phases" in result else True


@pytest.mark.parametrize("form", Format)
def test_every_format_shows_every_result(form: Format, capsys: Any) -> None:
    for result, expected in ((ROWS, "encode"), (KERNELS, "decode@1"), (AGAINST, "1.2")):
        show(result, form)
        assert expected in capsys.readouterr().out


def test_a_table_says_what_the_machine_did(capsys: Any) -> None:
    show(AGAINST, Format.table)
    out = capsys.readouterr().out
    for words in (
        "NOT STEADY after 5.1 s",
        "TOO MUCH",
        "1800 to 2100 MHz",
        "throttled 3 times",
        "LIMITED",
    ):
        assert words in out
    assert "A is better" in out and "above 1, A is better" in out


def test_the_shared_line_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "alices-laptop.example.org")
    result = {**ROWS, "device": "Processor of alices-laptop | x, 2 cores"}
    cells = share.row_of(result, MANIFEST)
    assert len(cells) == len(share.HEAD)
    assert "alices" not in " ".join(cells) and "|" not in " ".join(cells)
    assert "secret" not in " ".join(cells) and "0123abc-dirty" in cells
    assert cells[1] == "2, 2" and "MiniCPMV" in cells[3] and cells[-1] == "2026-11-30"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0123abc", "0123abc"),
        ("v1.2-3-gabcdef0", "abcdef0"),
        ("0.1.0", "0.1.0"),
        ("my-private-tag", "unknown"),
        ("my-private-tag-dirty", "unknown"),
    ],
)
def test_revisions_without_tags(text: str, shown: str) -> None:
    assert share.revision_of(text) == shown


def test_lines_are_appended_to_their_table(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "measured.md"
    file.write_text("# Figures\n\n| other |\n|---|\n| table |\n")
    share.share_row(ROWS, MANIFEST, file, yes=True)
    first = file.read_text()
    file.write_text(first + "\nThe end.\n")
    share.share_row(ROWS, MANIFEST, file, yes=True)
    lines = file.read_text().splitlines()
    at = lines.index(share.line(share.HEAD))
    assert lines[:5] == ["# Figures", "", "| other |", "|---|", "| table |"]
    assert lines[at + 2] == lines[at + 3] and lines[at + 4 :] == ["", "The end."]
    assert share.line(share.HEAD) in capsys.readouterr().err, "it is shown first"


def test_without_a_terminal_nothing_is_written_unasked(tmp_path: Path, capsys: Any) -> None:
    share.share_row(ROWS, MANIFEST, tmp_path / "x.md", yes=False)
    assert not (tmp_path / "x.md").exists()
    assert "--yes" in capsys.readouterr().err


USAGE = [
    (["--json", "--format", "csv"], "give one of them"),
    (["--against", ".", "--kernels"], "leave out --kernels"),
    (["--share", "x.md", "--kernels"], "--against and --kernels"),
    (["--share", "x.md", "--quick"], "leave out --quick"),
    (["--yes"], "add --share"),
]


@pytest.mark.parametrize(("flags", "message"), USAGE)
def test_options_that_exclude_each_other(flags: list[str], message: str, handglass: Any) -> None:
    result = handglass("bench", "nothing", *flags)
    assert result.code == 2 and message in result.err + result.out
