"""`handglass verify`: a bundle against the checkpoint it came from, stage by stage, in dB."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .compile import load_compiler
from .options import BundleArgument, Json
from .output import columns, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handglass.compiler.verify import Stage


def verify(
    bundle: BundleArgument,
    reference: Annotated[
        Path, typer.Option(metavar="CHECKPOINT", help="The checkpoint that it was compiled from.")
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PICTURE", help="Picture to compare on; repeatable.  [default: drawn]"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a bundle with its checkpoint."""
    from handglass.errors import MismatchError

    from .progress import progress

    load_compiler()
    from handglass.compiler.verify import verify as compare

    with progress() as tell:
        stages = compare(bundle, reference, images=image, progress=tell)
    first = next((stage for stage in stages if not stage.ok), None)
    if json:
        rows = [asdict(stage) for stage in stages]
        print_json({"ok": first is None, "stages": rows, "first": first and first.stage})
    else:
        print(as_text(stages, first))
    if first:
        raise typer.Exit(MismatchError.exit_code)


def as_text(stages: Sequence[Stage], first: Stage | None) -> str:
    rows = [("STAGE", "SIGNAL TO NOISE", "FLOOR", "")]
    rows += [(s.stage, db(s.snr_db), db(s.floor_db), "ok" if s.ok else "SHORT") for s in stages]
    verdict = f"first stage that falls short: {first.stage}" if first else "every stage holds"
    return f"{columns(rows)}\n{verdict}"


def db(value: float) -> str:
    """Infinite where not one bit differs."""
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"
