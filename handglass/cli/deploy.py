"""`handglass deploy`: a bundle and what runs it to a device, and the first answer from there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .footer import footer
from .options import BundleArgument, Json
from .output import print_json, size_text

if TYPE_CHECKING:
    from handglass.targets.deploy.deploy import Deployment

QUESTION = "What is this picture?"


def deploy(
    bundle: BundleArgument,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="A folder, ssh:[USER@]HOST[:PATH] or adb:SERIAL (a phone)."
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="The question to ask there.  [default: Hello, or what the picture is]",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="PICTURE", help="A picture to ask about; repeatable."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="X.Y",
            help="The device's Python.  [default: one that it has; 3.11 if it cannot be asked]",
        ),
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take the runtime's wheels from here, download nothing."),
    ] = None,
    native: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Send this native runner instead of packages for Python."),
    ] = None,
    json: Json = False,
) -> None:
    """Bring a bundle to a device and ask it there."""
    from handglass.targets.deploy.deploy import deploy as bring

    from .progress import progress

    images = image or []
    question = prompt or (QUESTION if images else "Hello")
    with progress() as tell:
        done = bring(
            bundle,
            to,
            prompt=question,
            images=images,
            python=python,
            offline=offline,
            native=native,
            tell=tell,
        )
    if json:
        print_json(vars(done))
    else:
        print_text(done)


def print_text(done: Deployment) -> None:
    """The answer to standard output, all about it to standard error, as `handglass run` does."""
    sent = f"{len(done.sent)} files sent ({size_text(done.bytes_sent)}), {done.kept} were there"
    print(f"{done.where}: {sent}", file=sys.stderr)
    if done.answer is None:
        print(f"not asked: {done.why_not_run}", file=sys.stderr)
    else:
        print(done.answer["text"])
        print(footer(done.answer["timings"]), file=sys.stderr)
    print(f"on the device: {done.command}", file=sys.stderr)
