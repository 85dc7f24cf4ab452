"""`handglass apply`: runs a bundle that was compiled from an ONNX file on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BundleArgument, Device, Json, Threads
from .output import columns, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handglass.runtime.bundle.entries import GraphEntry


def apply(
    bundle: BundleArgument,
    given: Annotated[
        list[str],
        typer.Option("--input", metavar="NAME=FILE", help="An input, as a .npy file; repeatable."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The .npz file to write."),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a bundle of an ONNX file on arrays."""
    import numpy as np

    from handglass.runtime.bundle.arrays import read_array, write_arrays
    from handglass.runtime.engine.graph import GraphSession

    session = GraphSession.load(bundle, threads, device)
    files = paths_of(given, session.graph)
    entries = {entry.name: entry for entry in session.graph.inputs}
    results = session.apply({name: read_array(file, entries[name]) for name, file in files.items()})
    if output is not None:
        write_arrays(output, results)
    rows: list[dict[str, Any]] = [
        {"name": name, "shape": list(array.shape), "mean": float(np.mean(array))}
        for name, array in results.items()
    ]
    if json:
        print_json({"outputs": rows, "file": str(output) if output else None})
    else:
        shown = [(r["name"], "x".join(map(str, r["shape"])), f"mean {r['mean']:.6g}") for r in rows]
        print(columns(shown))


def paths_of(given: Sequence[str], graph: GraphEntry) -> dict[str, Path]:
    """NAME=FILE -> the file of each input. Raises UsageError."""
    from handglass.errors import UsageError

    files = {}
    for text in given:
        name, _, file = text.partition("=")
        known = [entry.name for entry in graph.inputs]
        if name not in known or not file or name in files:
            raise UsageError(
                f"--input {text:.100}: must be NAME=FILE, once for each of {', '.join(known):.200}"
            )
        files[name] = Path(file)
    return files
