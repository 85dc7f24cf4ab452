"""`handglass deploy`: sends a bundle and its runtime to a device and tries it there."""

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
            help="Question to ask on the device, or the text in the command that is printed for an "
            "encoder.  [default: Hello, or what the picture is]",
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
    """Send a bundle to a device and try it there."""
    from handglass.targets.deploy.deploy import deploy as send

    from .progress import progress

    with progress() as report:
        done = send(
            bundle,
            to,
            prompt=prompt,
            images=image or [],
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
    if done.why_not_run:
        print(f"it was not tried: {done.why_not_run}", file=sys.stderr)
    elif done.answer is not None:
        print_answer(str(done.answer["text"]))
        print(footer(done.answer["timings"]), file=sys.stderr)
    for name, result in (done.trial or {}).items():
        print(f"tried there: {name}, {result}", file=sys.stderr)
    print(f"to use it on the device: {done.command}", file=sys.stderr)
