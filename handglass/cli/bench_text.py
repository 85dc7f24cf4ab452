"""Formats benchmark results as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from handglass.runtime.system.printable import printable

from .output import size_text

WIDTH = 132  # on a narrower terminal lines wrap, which is better than truncated names

LIMITS = {
    "read_gb_s": "read {:.1f} GB/s",
    "fma_gflop_s": "float32 {:.0f} GFLOP/s",
    "dot4_gop_s": "4-bit integers {:.0f} GOP/s",
    "dot8_gop_s": "8-bit integers {:.0f} GOP/s",
    "tile_int8_gop_s": "int8 tiles {:.0f} GOP/s",
    "tile_bf16_gflop_s": "bfloat16 tiles {:.0f} GFLOP/s",
}


RELATIONS = {
    "same bundle": ["A and B are the same bundle: the ratios show the noise of this machine"],
    "different models": ["A and B are different models: the same row is not the same work"],
}


def rows_text(result: Mapping[str, Any]) -> None:
    table = new_table(("row", "unit"), ("min", "median", "p90", "of limit"), ("",))
    for row in result["rows"]:
        table.add_row(*map(printable, cells(row)))
    console = head(result)
    console.print(table)


def kernels_text(result: Mapping[str, Any]) -> None:
    console = head(result)
    for phase in result["phases"]:
        plain, observed = phase["step_ms"]["median"], phase["observed_ms"]["median"]
        if plain is None or observed is None:
            continue
        line = f"\n{phase['phase']}: {plain:.1f} ms, {observed:.1f} ms while profiled"
        console.print(line, highlight=False, markup=False)
        numbers = ("calls", "ms", "share", "min us", "median us", "p90 us", "GB/s", "GFLOP/s")
        table = new_table(("kernel", "rule"), (*numbers, "of limit"), ())
        for row in phase["kernels"]:
            table.add_row(*kernel_cells(row))
        console.print(table)


def comparison_text(result: Mapping[str, Any]) -> None:
    """Rows of two bundles with their ratio; above 1, A is better."""
    table = new_table(("row", "unit"), ("A", "B", "ratio", "interval"), ("",))
    for row in result["rows"]:
        table.add_row(*map(printable, comparison_cells(row)))
    console = head(result)
    console.print(table)


def new_table(left: Sequence[str], right: Sequence[str], notes: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in notes:
        table.add_column(name, style="dim")
    return table


def head(result: Mapping[str, Any]) -> Console:
    """Print the conditions and limits of the measurement. Returns the console for the table."""
    console = Console()
    console.width = max(console.width, WIDTH)
    for line in head_lines(result):
        console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    return console


def head_lines(result: Mapping[str, Any]) -> list[str]:
    """The conditions of the measurement: of one bundle, or of two that were compared."""
    if "a" in result:
        lines = [f"{name.upper()}: {line}" for name in "ab" for line in where_lines(result[name])]
        lines.append("ratio: cost of B over cost of A; above 1, A is better")
        lines += RELATIONS.get(result.get("relation", ""), [])
    else:
        lines = where_lines(result)
    if steadiness := result.get("steadiness"):
        lines += steadiness_lines(steadiness)
    if result["interrupted"]:
        lines.append("interrupted: partial results")
    return lines


def where_lines(result: Mapping[str, Any]) -> list[str]:
    scheme = ", ".join(f"{part} {name}" for part, name in result["scheme"].items())
    when = f"{result['date']}, {result['revision']}"
    where = f"{result['device']}, {result['threads']} threads"
    where = f"{result['gpu']}, host {where}" if result["gpu"] else where
    found = {name: limit["median"] for name, limit in result["limits"].items()}
    limits = [text.format(found[name]) for name, text in LIMITS.items() if found.get(name)]
    shown = [f"limits (median): {', '.join(limits)}"] if limits else []
    return [f"{where}; {scheme}; {when}", *shown]


def steadiness_lines(found: Mapping[str, Any]) -> list[str]:
    """How the speed of the machine changed: the reference, the clock, throttling."""
    waited = {
        True: f"steady after {found['waited_s']:.1f} s",
        False: f"NOT STEADY after {found['waited_s']:.1f} s",
        None: "did not wait for a steady speed",
    }[found["became_steady"]]
    parts = [waited]
    if found["drift"] is not None:
        before = LIMITS[found["reference"]].format(found["before"])
        after = "" if found["after"] is None else f" before, {found['after']:.0f} after"
        parts.append(before + after)
        parts.append(f"drift {found['drift']:.0%}" + (": TOO MUCH" if found["drifted"] else ""))
    return ["; ".join([*parts, *clock_parts(found)])]


def clock_parts(found: Mapping[str, Any]) -> Iterator[str]:
    clock = found["clock_mhz"]
    if clock["median"] is None:
        yield "the system does not tell the clock"
    elif clock["min"] == clock["p90"]:
        yield f"clock {clock['median']:.0f} MHz"
    else:
        yield f"clock {clock['min']:.0f} to {clock['p90']:.0f} MHz"
    if found["throttled"] is not None:
        yield f"throttled {found['throttled']} times" if found["throttled"] else "not throttled"
    if found["limited"]:
        yield "LIMITED because of heat or power"
    if found["hottest_celsius"] is not None:
        yield f"at most {found['hottest_celsius']:.0f} °C"


def cells(row: Mapping[str, Any]) -> Sequence[str]:
    values = [figure(row[name], row["unit"]) for name in ("min", "median", "p90")]
    unit = "" if row["unit"] == "B" else row["unit"]
    return (row["row"], unit, *values, share(row["limit_fraction"]), row.get("note", ""))


def comparison_cells(row: Mapping[str, Any]) -> Sequence[str]:
    unit = "" if row["unit"] == "B" else row["unit"]
    medians = (figure(row[side]["median"], row["unit"]) for side in ("a", "b"))
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
    interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    verdict = {"better": "A is better", "worse": "B is better"}.get(row["verdict"], row["verdict"])
    note = "; ".join(filter(None, [verdict, row.get("note", "")]))
    return (row["row"], unit, *medians, ratio, interval, note)


def kernel_cells(row: Mapping[str, Any]) -> Sequence[str]:
    return (
        printable(row["kernel"]),
        printable(row["rule"]),
        f"{row['calls']:.0f}",
        figure(row["total_ms"]),
        share(row["share"]),
        *(figure(row[name]) for name in ("min_us", "median_us", "p90_us", "gb_s", "gflop_s")),
        share(row["limit_fraction"]),
    )


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def figure(value: float | None, unit: str = "") -> str:
    """Format a number with three significant digits, and bytes with their unit."""
    if value is None:
        return "-"
    if unit == "B":
        return size_text(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
