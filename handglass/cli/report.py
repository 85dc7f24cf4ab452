"""`handglass report`: one page about a bundle, or about two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handglass.runtime.system.exits import INTERRUPTED

from .bundle_argument import bundle_folder
from .options import MOST_SAMPLES, Device, Json, Threads
from .output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handglass.runtime.pages.content import Content

SAMPLES, QUICK_SAMPLES = 7, 2
DEFAULT = Path("report.html")


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE [BUNDLE]",
            help="A bundle folder, or a report saved with --json; two are shown side by side.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page to write.  [default: report.html]"
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="Write the roofline plot alone, and no page."),
    ] = None,
    parity: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The output of handglass verify --json, for each BUNDLE in order.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT", help="Compare the first BUNDLE with its checkpoint now."
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=1,
            max=MOST_SAMPLES,
            metavar="N",
            help="Samples of each step.  [default: 7, quick: 2]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take fewer samples; do not measure peak memory.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Run the bundles on this machine.")
    ] = True,
    json: Json = False,
) -> None:
    """Write a page with pictures: limits, time, memory."""
    from handglass.runtime.pages.content import as_json

    from .report_files import check_output, draw, write
    from .report_sides import Options, gather

    check_sources(sources, parity, reference)
    target = svg or output or (None if json else DEFAULT)
    if svg and output:
        raise usage("--svg writes no page: leave out --output, or run the command twice")
    if target:
        check_output(target)
    count = samples or (QUICK_SAMPLES if quick else SAMPLES)
    options = Options(threads, device, count, quick, measure)
    sides, interrupted = gather(sources, parity or [], reference, options)
    if target:
        write(target, draw(sides, alone=svg is not None))
    if json:
        print_json(as_json(sides[0]) if len(sides) == 1 else compared(sides))
    elif target:
        print(f"wrote {target}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def check_sources(
    sources: Sequence[Path], parity: Sequence[Path] | None, reference: Path | None
) -> None:
    """Raise UsageError for combinations without a meaning."""
    if len(sources) > 2:
        raise usage(f"{len(sources)} bundles: a report is about one or two")
    if len(parity or []) > len(sources):
        raise usage(f"{len(parity or [])} times --parity for {len(sources)} bundles: one for each")
    if parity and reference:
        raise usage("--reference measures what --parity reads: give one of them")
    for source in sources:
        bundle_folder(source)


def compared(sides: Sequence[Content]) -> dict[str, Any]:
    """The JSON of two reports side by side."""
    from dataclasses import asdict

    from handglass.runtime.pages.content import TWO_SIDES, as_json
    from handglass.runtime.pages.ratios import kernel_pairs, pairs

    a, b = sides
    return {
        "format": TWO_SIDES,
        "a": as_json(a),
        "b": as_json(b),
        "ratios": [{**asdict(pair), "ratio": pair.ratio} for pair in pairs(a, b)],
        "kernels": [{**asdict(pair), "ratio": pair.ratio} for pair in kernel_pairs(a, b)],
    }


def usage(message: str) -> Exception:
    from handglass.errors import UsageError

    return UsageError(message)
