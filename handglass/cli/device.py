"""`handglass device serve`: lets another machine tune and measure on this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Threads


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="0: any that is free.")
    ] = 9190,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="A file with the shared key.  [default: $HANDGLASS_DEVICE_KEY, or a random key]",
        ),
    ] = None,
    threads: Threads = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="FILE",
            help="libtvm_runtime.so.  [default: that of an installed apache-tvm]",
        ),
    ] = None,
    vulkan: Annotated[
        Path | None,
        typer.Option(
            "--vulkan",
            metavar="FILE",
            help="libhandglass_vulkan.so, for GPUs.  [default: found, or built when needed]",
        ),
    ] = None,
    expose: Annotated[
        bool,
        typer.Option(
            "--expose",
            help="Allow an address that other machines reach: whoever knows the key can run code "
            "here, and nothing is encrypted.",
        ),
    ] = False,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="End when standard input does, as over ssh."),
    ] = False,
    json: Json = False,
) -> None:
    """Measure kernels here for another machine."""
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process with threads should not fork
    from handglass.runtime.remote.serving import Options, serve

    options = Options(host, port, key_file, threads, runtime, expose, until_eof, vulkan)
    serve(options, lambda started: print(started.told(json), flush=True))
