"""Benchmark results as CSV and as Markdown: a line for each row, with its conditions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handglass.runtime.system.printable import printable

from .bench_text import cells, comparison_cells, figure, head_lines, kernel_cells

CONDITIONS = ("device", "gpu", "threads", "date", "revision", "scheme")
SPREAD = ("min", "median", "p90")
COMMANDS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute the content of a cell."""
KERNEL_KEYS = (
    *("phase", "kernel", "rule", "calls", "total_ms", "share", "min_us", "median_us", "p90_us"),
    *("bytes", "operations", "gb_s", "gflop_s", "limit", "limit_fraction"),
)
ROW_KEYS = ("row", "unit", *SPREAD, "samples", "limit", "limit_fraction", "note")
COMPARED_KEYS = ("row", "unit", "ratio", "low", "high", "rounds", "verdict", "note")


def csv_text(result: Mapping[str, Any]) -> str:
    """A heading and a line for each row, kernel or comparison; figures with all their digits."""
    lines = list(_records(result))
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in line.items()} for line in lines)
    return out.getvalue()


def _records(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "phases" in result:
        for phase in result["phases"]:
            for row in phase["kernels"]:
                yield {key: row[key] for key in KERNEL_KEYS} | _conditions(result, "")
    elif "a" in result:
        for row in result["rows"]:
            yield _compared(row) | _conditions(result["a"], "a_") | _conditions(result["b"], "b_")
    else:
        for row in result["rows"]:
            yield {key: row.get(key) for key in ROW_KEYS} | _conditions(result, "")


def _compared(row: Mapping[str, Any]) -> dict[str, Any]:
    sides = {f"{side}_{key}": row[side][key] for side in ("a", "b") for key in SPREAD}
    return {key: row.get(key) for key in COMPARED_KEYS} | sides


def _conditions(result: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    scheme = " ".join(f"{part}={name}" for part, name in result["scheme"].items())
    return {prefix + key: scheme if key == "scheme" else result[key] for key in CONDITIONS}


def _cell(value: Any) -> Any:
    """Text that a spreadsheet shows and does not compute."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(COMMANDS) else text


def markdown_text(result: Mapping[str, Any]) -> str:
    """The conditions as a paragraph, then a table; figures rounded as on a terminal."""
    return "\n\n".join(_blocks(result)) + "\n"


KERNEL_HEAD = ("kernel", "rule", "calls", "ms", "share", "min us", "median us", "p90 us")


def _blocks(result: Mapping[str, Any]) -> Iterator[str]:
    yield "\n".join(map(_plain, head_lines(result)))
    if "phases" in result:
        for phase in result["phases"]:
            yield f"{_plain(phase['phase'])}: {figure(phase['step_ms']['median'])} ms"
            head = (*KERNEL_HEAD, "GB/s", "GFLOP/s", "of limit")
            yield _table(head, map(kernel_cells, phase["kernels"]))
    elif "a" in result:
        compared = ("row", "unit", "A", "B", "ratio", "interval", "")
        yield _table(compared, map(comparison_cells, result["rows"]))
    else:
        yield _table(("row", "unit", *SPREAD, "of limit", ""), map(cells, result["rows"]))


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    shown = printable(text)
    for character in "\\`*_[]<>|":
        shown = shown.replace(character, f"\\{character}")
    return shown
