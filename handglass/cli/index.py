"""`handglass index`: makes the index of a folder of pictures, for `handglass search`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from handglass.runtime.system.printable import printable

from .options import BundleArgument, Device, Json, Threads
from .output import print_json


def index(
    bundle: BundleArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder of pictures, and those below it.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="INDEX",
            help="The index to write, or to bring up to date: only new pictures are encoded.",
        ),
    ],
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Index a folder of pictures."""
    from handglass.runtime.search.encoder import Encoder, identity
    from handglass.runtime.search.index_file import FORMAT, About
    from handglass.runtime.search.making import update

    from .progress import progress

    about = About(FORMAT, str(bundle.resolve()), identity(bundle), str(folder.resolve()))
    encoder = Encoder.load(bundle, threads, device)
    with progress() as advance:
        outcome = update(output, about, encoder.picture, advance)
    for name, reason in outcome.skipped.items():
        print(f"skipped {printable(name)}: {printable(reason)}", file=sys.stderr)
    if json:
        print_json({"index": str(output), **asdict(outcome)})
        return
    print(
        f"{printable(output)}: {outcome.total} pictures: {outcome.added} new, {outcome.moved} "
        f"moved, {outcome.unchanged} unchanged; {outcome.removed} removed, "
        f"{len(outcome.skipped)} skipped"
    )
