"""`handglass search`: finds the pictures of an index that fit a text or a picture, or the texts
that `handglass embed` has written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .bundle_argument import bundle_folder
from .options import Device, Json, Threads
from .output import columns, print_json


def search(
    index: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX",
            help="What handglass index has written, or handglass embed as FILE.safetensors.",
        ),
    ],
    query: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to look for.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Look for what is like this picture, not for a text."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-k", min=1, metavar="N", help="How many to name.")
    ] = 10,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the pictures found as one HTML page."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            metavar="BUNDLE",
            help="The bundle of the index, if it has moved.  [default: where it was]",
            callback=bundle_folder,
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Compare with all rows, even of an index of more than a million."
        ),
    ] = False,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Find pictures or texts by a text or a picture."""
    from handglass.errors import DeviceError, InputError, MismatchError, UsageError
    from handglass.runtime.search.cells import EXACT, open_cells
    from handglass.runtime.search.encoder import Encoder, identity
    from handglass.runtime.search.nearest import nearest
    from handglass.runtime.search.rows_file import open_index
    from handglass.runtime.search.sheet import sheet

    from .progress import progress

    if (query is None) == (image is None):
        raise UsageError("give a text to look for, or --image")
    if query is not None and not query.strip():
        raise UsageError("TEXT is empty: say what the pictures should show")
    opened = open_index(index)
    if html is not None and not opened.about.folder:
        raise UsageError("--html shows the pictures of a folder, which this index has not; omit it")
    bundle = model or Path(opened.about.bundle)
    if model is None and not bundle.is_dir():
        raise InputError(f"{bundle}: the bundle of the index is gone; pass it with --model BUNDLE")
    if identity(bundle) != opened.about.manifest_sha256:
        raise MismatchError(
            f"{bundle}: is not the bundle of {index}, whose rows cannot be compared with its own; "
            "make the index again"
        )
    encoder = Encoder.load(bundle, threads, device)
    row = encoder.picture(image) if query is None else encoder.text(query)
    title = query or str(image)
    if exact or len(opened.rows) <= EXACT:
        found = nearest(opened, row, count)
    else:
        with progress() as advance:
            cells = open_cells(index, opened, advance)
        found = cells.nearest(opened, row, count)
    if html is not None:
        try:
            html.write_text(sheet(title, Path(opened.about.folder), found), encoding="utf-8")
        except OSError as error:
            raise DeviceError(f"{html}: cannot write: {error.strerror}") from error
    if json:
        print_json(
            {"query": title, "folder": opened.about.folder, "found": list(map(asdict, found))}
        )
    else:
        print(columns([(f"{one.cosine:.3f}", one.name) for one in found]))
