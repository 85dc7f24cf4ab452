"""`handglass bench`: times of a bundle on this machine, beside what the machine could do."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import INTERRUPTED
from .options import BundleArgument, Json, Threads
from .output import print_json, size_text

if TYPE_CHECKING:
    from pathlib import Path

    from handglass.runtime.bench import Benchmark


def bench(
    bundle: BundleArgument,
    threads: Threads = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=1, metavar="N", help="Samples per row.  [default: 5, quick: 2]"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer samples, and without the rows that take longest.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure a bundle on this machine."""
    from handglass.runtime.bench import QUICK_SAMPLES, SAMPLES, Benchmark
    from handglass.runtime.bundle import Bundle
    from handglass.runtime.session import Session

    from .progress import progress

    benchmark = Benchmark(
        Session(Bundle.open(bundle, "remembered"), threads), bundle, threads, quick
    )
    interrupted = False
    try:
        with progress() as tell:
            benchmark.run(samples or (QUICK_SAMPLES if quick else SAMPLES), tell)
    except KeyboardInterrupt:
        interrupted = True
    told = {**about(benchmark), "interrupted": interrupted, "rows": benchmark.report()}
    if json:
        print_json(told)
    else:
        print_table(told)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def about(benchmark: Benchmark) -> dict[str, Any]:
    """What a row is worth nothing without."""
    from handglass.runtime.bench import spread
    from handglass.targets.machine import read_machine

    machine, manifest = read_machine(), benchmark.manifest
    return {
        "device": f"{machine.model}, {machine.cores} cores",
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "threads": benchmark.session.threads,
        "versions": versions(manifest.versions),
        "scheme": dict(manifest.scheme),
        "limits": {
            "read_gb_s": spread([rate / 1e9 for rate in benchmark.limits.rates["read"]]),
            "fma_gflop_s": spread([rate / 1e9 for rate in benchmark.limits.rates["fma"]]),
        },
    }


def versions(compiled_with: Mapping[str, str]) -> dict[str, str]:
    """What runs here; beside it what the bundle was compiled with."""
    from importlib.metadata import version
    from platform import python_version

    import handglass

    return {
        "handglass": handglass.__version__,
        "python": python_version(),
        "numpy": version("numpy"),
        "tvm_ffi": version("apache-tvm-ffi"),
        **{f"bundle_{name}": text for name, text in compiled_with.items()},
    }


def revision() -> str:
    """Of the package's own git checkout, or its version where it is installed from a wheel."""
    from pathlib import Path

    import handglass

    here = Path(handglass.__file__).parent
    tracked = git(here, "ls-files", "--error-unmatch", "__init__.py")
    return (tracked and git(here, "describe", "--always", "--dirty")) or handglass.__version__


def git(folder: Path, *arguments: str) -> str:
    """What git prints, nothing where it fails or is not installed."""
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def print_table(told: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("row", "unit", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("min", "median", "p90", "of limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="dim")
    for row in told["rows"]:
        table.add_row(*cells(row))
    console = Console(soft_wrap=False)
    for line in head(told):
        console.print(line, highlight=False, markup=False)
    console.print(table)


def head(told: Mapping[str, Any]) -> list[str]:
    limits = told["limits"]
    scheme = ", ".join(f"{part} {name}" for part, name in told["scheme"].items())
    lines = [
        f"{told['device']}, {told['threads']} threads; {scheme}; {told['date']}, {told['revision']}"
    ]
    if limits["read_gb_s"]["median"] is not None:
        lines.append(f"limits: read {limits['read_gb_s']['median']:.1f} GB/s")
        lines[-1] += f", multiply-add {limits['fma_gflop_s']['median']:.0f} GFLOP/s (median)"
    if told["interrupted"]:
        lines.append("interrupted: what was measured until then")
    return lines


def cells(row: Mapping[str, Any]) -> Sequence[str]:
    fraction = row["limit_fraction"]
    share = "" if fraction is None else f"{fraction:.1%}"
    values = [figure(row[name], row["unit"]) for name in ("min", "median", "p90")]
    unit = "" if row["unit"] == "B" else row["unit"]
    return (row["row"], unit, *values, share, row.get("note", ""))


def figure(value: float | None, unit: str) -> str:
    """Three digits, and bytes as people say them."""
    if value is None:
        return "-"
    if unit == "B":
        return size_text(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
