"""`handglass deploy`: sends a bundle and its runtime to a device and asks a first question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from handglass.runtime.system.streams import print_answer

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
            help="Question to ask on the device.  [default: Hello, or what the picture is]",
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
            help="Python version of the device.  [default: detected, or 3.11 if that fails]",
        ),
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the runtime's wheels; nothing is downloaded."),
    ] = None,
    native: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Send this native runner instead of Python packages."),
    ] = None,
    json: Json = False,
) -> None:
    """Send a bundle to a device and ask it there."""
    from handglass.targets.deploy.deploy import deploy as send

    from .progress import progress

    images = image or []
    question = prompt or (QUESTION if images else "Hello")
    with progress() as report:
        done = send(
            bundle,
            to,
            prompt=question,
            images=images,
            python=python,
            offline=offline,
            native=native,
            tell=report,
        )
    if json:
        print_json(vars(done))
    else:
        print_text(done)


def print_text(done: Deployment) -> None:
    """Print the answer to standard output and everything else to standard error."""
    sent = f"{len(done.sent)} files sent ({size_text(done.bytes_sent)}), {done.kept} up to date"
    print(f"{done.where}: {sent}", file=sys.stderr)
    if done.answer is None:
        print(f"the question was not asked: {done.why_not_run}", file=sys.stderr)
    else:
        print_answer(str(done.answer["text"]))
        print(footer(done.answer["timings"]), file=sys.stderr)
    print(f"to ask on the device: {done.command}", file=sys.stderr)
