"""`handglass bench`: times a bundle on this machine against the machine's measured limits."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from handglass.errors import UsageError
from handglass.runtime.system.exits import INTERRUPTED

from .bundle_argument import bundle_folder
from .options import MOST_SAMPLES, BundleArgument, Device, Json, Threads
from .output import print_json

SETTLE_S = 5.0


class Format(str, Enum):
    """How figures are printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


def bench(
    bundle: BundleArgument,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Compare with this bundle, in rounds of both.",
            callback=bundle_folder,
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
            help="Samples per row.  [default: 5, quick: 2; with --against: 9, quick: 6]",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Take fewer samples and skip the slowest rows.")
    ] = False,
    kernels: Annotated[
        bool,
        typer.Option(
            "--kernels", help="Time each kernel of a picture, of a prefill, a decode or a text."
        ),
    ] = False,
    settle: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3600,
            metavar="SECONDS",
            help="Wait at most so long until the machine has a steady speed; 0: do not wait.  "
            "[default: 5, quick: 0]",
        ),
    ] = None,
    share: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Show the figures as one line without names, and append it to the table in FILE.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Append the line of --share without a question.")
    ] = False,
    format_: Annotated[
        Format | None, typer.Option("--format", help="How to print figures.  [default: table]")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a bundle on this machine."""
    from .bench_setup import Asked, check_shared, check_together, measure, set_up

    form = chosen(format_, json)
    asked = Asked(bundle, against, kernels, threads, device, quick, samples)
    check_together(asked, share, yes)
    run = set_up(asked)
    check_shared(share, run.manifest)
    wait = (0.0 if quick else SETTLE_S) if settle is None else settle
    interrupted, steadiness = measure(run, wait)
    result = {**run.conditions(), "interrupted": interrupted, "steadiness": steadiness}
    result[run.key] = run.work.report()
    show(result, form)
    if share and not interrupted:
        from .share import share_row

        share_row(result, run.manifest, share, yes, may_ask=form is Format.table)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def chosen(form: Format | None, json: bool) -> Format:
    """The format of --format and --json. Raises UsageError if they differ."""
    if json and form not in (None, Format.json):
        raise UsageError(f"--json and --format {form.value}: give one of them")
    return Format.json if json else form or Format.table


def show(result: dict[str, Any], form: Format) -> None:
    from .bench_formats import csv_text, markdown_text
    from .bench_text import comparison_text, kernels_text, rows_text

    if form is Format.json:
        print_json(result)
    elif form is Format.csv:
        print(csv_text(result), end="")
    elif form is Format.markdown:
        print(markdown_text(result), end="")
    else:
        table: Callable[[dict[str, Any]], None] = (
            kernels_text if "phases" in result else comparison_text if "a" in result else rows_text
        )
        table(result)
