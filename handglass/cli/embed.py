"""`handglass embed`: pictures and texts as rows of numbers whose directions can be compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handglass.runtime.system.printable import printable

from .options import BundleArgument, Device, Json, Threads
from .output import print_json

if TYPE_CHECKING:
    import numpy as np

    from handglass.runtime.search.encoder import Encoder
    from handglass.runtime.search.rows_file import Input

STDIN = Path("-")


def embed(
    bundle: BundleArgument,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="PICTURE", help="A picture; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A text; repeatable.")
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with a text on each line; - is standard input."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write FILE.npy, FILE.safetensors or FILE.jsonl.  [default: JSON lines on "
            "standard output]",
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave rows as the model gives them, not of length 1.")
    ] = False,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Turn pictures and texts into rows of numbers."""
    from handglass.errors import UsageError
    from handglass.runtime.prompt.preprocess import open_picture
    from handglass.runtime.search.encoder import Encoder, identity
    from handglass.runtime.search.index_file import About
    from handglass.runtime.search.rows_file import FORMAT, check_output, write_rows

    if output is not None:
        check_output(output)
    inputs = list(inputs_of(image or [], text or [], input))
    if not inputs:
        raise UsageError("give at least one --image, --text, or an --input with lines")
    for path in image or []:
        open_picture(path)  # before a large model is loaded
    encoder = Encoder.load(bundle, threads, device)
    rows = encoded(encoder, inputs, raw)
    if output is None and not json:
        for one, row in zip(inputs, rows, strict=True):
            print(one.line(row), flush=True)
    elif output is None:
        pairs = zip(inputs, rows, strict=True)
        print_json({"rows": [one.plain(row) for one, row in pairs]})
    else:
        array = gathered(rows, len(inputs))
        about = About(FORMAT, str(bundle.resolve()), identity(bundle), "")
        write_rows(output, about, inputs, array)
        say(output, array.shape, json)
    if count := encoder.texts_cut:
        print(
            f"{count} of the texts are too long for the model: it saw their beginnings",
            file=sys.stderr,
        )


def inputs_of(images: list[Path], texts: list[str], lines: Path | None) -> Iterator[Input]:
    """Pictures, then texts, then lines."""
    from handglass.runtime.search import rows_file as files

    yield from (files.Input(files.PICTURE, str(path)) for path in images)
    yield from (files.Input(files.TEXT, text) for text in texts)
    if lines is None:
        return
    if lines == STDIN:
        data = sys.stdin.buffer.read(files.LINES_BYTES + 1)
        found = files.split_lines(data, "standard input")
    else:
        found = files.read_lines(lines)
    yield from (files.Input(files.TEXT, line) for line in found)


def encoded(encoder: Encoder, inputs: list[Input], raw: bool) -> Iterator[np.ndarray]:
    """The row of each, when it is wanted."""
    from handglass.runtime.search.rows_file import PICTURE

    for one in inputs:
        encode = encoder.picture if one.kind == PICTURE else encoder.text
        yield encode(one.value, raw)


def gathered(rows: Iterator[np.ndarray], count: int) -> np.ndarray:
    """All rows (n, width)."""
    import numpy as np

    from .progress import progress

    found = []
    with progress() as advance:
        for number, row in enumerate(rows):
            advance("embed", number, count)
            found.append(row)
        advance("embed", count, count)
    return np.stack(found)


def say(output: Path, shape: tuple[int, ...], json: bool) -> None:
    count, width = shape
    if json:
        print_json({"output": str(output), "rows": count, "width": width})
    else:
        print(f"{printable(output)}: {count} rows of {width} columns")
