"""`handglass serve`: answers over HTTP, with OpenAI's interface."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from handglass.errors import UsageError
from handglass.runtime.serve.limits import (
    BODY_MB,
    PICTURE_MB,
    PICTURES,
    QUEUE,
    STALL_S,
    TIMEOUT_S,
    Limits,
)

from .bundle_argument import bundle_folder
from .options import Device, Json, Threads


def bundle_folders(paths: list[Path]) -> list[Path]:
    return [path for path in map(bundle_folder, paths) if path is not None]


def serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE",
            help="Bundle folders; each is served under the name of its folder.",
            callback=bundle_folders,
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, metavar="N", help="The port; 0: any free one."),
    ] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="A file with the token that clients must send (Authorization: Bearer).",
        ),
    ] = None,
    conversations: Annotated[
        int,
        typer.Option(
            "--conversations", min=1, max=1024, metavar="N", help="Conversations with own caches."
        ),
    ] = 4,
    queue: Annotated[
        int,
        typer.Option("--queue", min=1, max=4096, metavar="N", help="Requests that may wait."),
    ] = QUEUE,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1, metavar="S", help="Seconds from a request to its end."),
    ] = TIMEOUT_S,
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout",
            min=1,
            metavar="S",
            help="Seconds that a client may leave its answer unread.",
        ),
    ] = STALL_S,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1, max=1024, metavar="MB", help="Largest request.")
    ] = BODY_MB,
    max_pictures: Annotated[
        int, typer.Option("--max-pictures", min=0, metavar="N", help="Pictures of one request.")
    ] = PICTURES,
    picture_cache: Annotated[
        int,
        typer.Option(
            "--picture-cache",
            min=1,
            max=1 << 16,
            metavar="MB",
            help="Pictures that are kept for later turns: MB of cut ones and as much encoded.",
        ),
    ] = PICTURE_MB,
    allow_urls: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-urls",
            metavar="HOST",
            help="Fetch pictures from this host; repeatable.  [default: none]",
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            metavar="ORIGIN",
            help="Let pages of this origin use the server; repeatable.  [default: none]",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Answer over HTTP, with OpenAI's interface and a page to chat."""
    check_packages()
    for name, seconds in (("--timeout", timeout), ("--stall-timeout", stall_timeout)):
        if not math.isfinite(seconds):
            raise UsageError(f"{name} {seconds}: must be a number of seconds")
    from handglass.runtime.serve.plan import Options
    from handglass.runtime.serve.web.start import serve

    limits = Limits(
        body_bytes=max_body << 20,
        pictures=max_pictures,
        picture_bytes=picture_cache << 20,
        queue=queue,
        timeout_s=timeout,
        stall_s=stall_timeout,
        hosts=tuple(allow_urls or ()),
    )
    access = (host, port, token_file)
    serve(
        bundles,
        Options(*access, conversations, threads, device, tuple(cors or ()), limits),
        note=lambda text: print(text, file=sys.stderr, flush=True),
        announce=lambda started: print(started.announcement(json), flush=True),
    )


def check_packages() -> None:
    """Raise UsageError if the packages of the extra are missing."""
    from importlib.util import find_spec

    packages = ("starlette", "uvicorn", "prometheus_client", "llguidance")
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UsageError(f"{', '.join(missing)}: not installed; pip install 'handglass[serve]'")
