"""`handglass verify`: compares a bundle with its checkpoint, stage by stage, in dB."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .compile import load_compiler
from .options import BundleArgument, Device, Json, Mmproj
from .output import columns, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handglass.compiler.parity.ratios import Stage


def verify(
    bundle: BundleArgument,
    reference: Annotated[
        Path,
        typer.Option(metavar="CHECKPOINT", help="The checkpoint the bundle was compiled from."),
    ],
    mmproj: Mmproj = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PICTURE",
            help="Picture to compare on; repeatable.  [default: a generated picture]",
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Also read .bin files, using torch with weights_only=True."
        ),
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Compare a bundle with its checkpoint."""
    from handglass.errors import MismatchError

    from .progress import progress

    load_compiler(allow_pickle)
    from handglass.compiler.parity.ratios import report
    from handglass.compiler.verify import verify as compare

    with progress() as advance:
        stages = compare(bundle, reference, image, advance, allow_pickle, device, mmproj)
    result = report(stages)
    if json:
        print_json(result)
    else:
        print(as_text(stages))
    if not result["ok"]:
        raise typer.Exit(MismatchError.exit_code)


def as_text(stages: Sequence[Stage]) -> str:
    rows = [("STAGE", "SIGNAL TO NOISE", "FLOOR", "ARITHMETIC", "")]
    for s in stages:
        arithmetic = "" if s.arithmetic_db is None else db(s.arithmetic_db)
        rows.append((s.stage, db(s.snr_db), db(s.floor_db), arithmetic, verdict(s)))
    return f"{columns(rows)}\n{summary(stages)}"


def verdict(stage: Stage) -> str:
    if not stage.ok:
        return f"FAULT {stage.tensor}".strip()
    return "LOSSY" if stage.is_lossy else "ok"


def summary(stages: Sequence[Stage]) -> str:
    """The last line: the first fault, or else what the storage costs."""
    if fault := next((stage.stage for stage in stages if not stage.ok), None):
        return f"first stage at fault: {fault}"
    if lossy := [stage.stage for stage in stages if stage.is_lossy]:
        return (
            "no fault, but this scheme loses more of this checkpoint than its floor allows in "
            f"{', '.join(lossy)}: numpy loses as much with the same weights; use more bits"
        )
    return "every stage meets its floor"


def db(value: float) -> str:
    """Format a ratio: inf means bit-exact, -inf means that a value is not finite."""
    if math.isinf(value):
        return "exact" if value > 0 else "not finite"
    return f"{value:.1f} dB"
