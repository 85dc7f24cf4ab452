"""`handglass device serve`: lets another machine measure kernels on this one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from handglass.runtime.devices.kinds import DeviceKind, plugin_kinds

from .options import Json, Threads


def with_plugins(verb: Callable[..., None]) -> Callable[..., None]:
    """Add a flag `--KIND FILE` for each kind of device that has a plug-in library.

    typer derives flags from the signature, where they replace the verb's `**plugins`.
    """
    signature = inspect.signature(verb, eval_str=True)
    fixed = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(kind.name, fixed[0].kind, default=None, annotation=plugin_flag(kind))
        for kind in plugin_kinds()
    ]
    verb.__signature__ = signature.replace(parameters=[*fixed, *flags])  # type: ignore[attr-defined]
    return verb


def plugin_flag(kind: DeviceKind) -> Any:
    text = f"{kind.library}, for {kind.label}.  [default: the installed one, or built on demand]"
    return Annotated[Path | None, typer.Option(f"--{kind.name}", metavar="FILE", help=text)]


@with_plugins
def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, metavar="N", help="The port to listen on; 0: any free port."
        ),
    ] = 9190,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="File with the shared key.  [default: $HANDGLASS_DEVICE_KEY, or a random key]",
        ),
    ] = None,
    threads: Threads = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="FILE",
            help="Path of libtvm_runtime.so.  [default: that of the installed apache-tvm]",
        ),
    ] = None,
    expose: Annotated[
        bool,
        typer.Option(
            "--expose",
            help="Allow an address that other machines can reach. Anyone who has the key can run "
            "code on this machine, and traffic is not encrypted.",
        ),
    ] = False,
    counter: Annotated[
        Path | None,
        typer.Option(
            "--counter",
            metavar="FILE",
            help="Under QEMU: the file in which its plug-in counts instructions.",
        ),
    ] = None,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="Exit at the end of standard input, for use over ssh."),
    ] = False,
    json: Json = False,
    **plugins: Path | None,
) -> None:
    """Measure kernels for another machine."""
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a multi-threaded process must not fork
    from handglass.runtime.remote.serving import Options, serve

    given = {kind: file for kind, file in plugins.items() if file is not None}
    options = Options(host, port, key_file, threads, runtime, expose, until_eof, given, counter)
    serve(options, lambda started: print(started.announcement(json), flush=True))
    if not (json or until_eof):
        print("stopped", file=sys.stderr)  # behind ^C
