"""`python -m handglass.runtime.remote`: the device server, for machines without typer."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..devices.kinds import plugin_kinds
from ..system.exits import run_module


def main() -> int:
    return run_module(_serve)


def _serve() -> None:
    flags = vars(_parser().parse_args())
    as_json = flags.pop("json")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a multithreaded process must not fork
    from .serving import Options, serve

    plugins = {kind.name: file for kind in plugin_kinds() if (file := flags.pop(kind.name))}
    serve(
        Options(**flags, plugins=plugins),
        lambda started: print(started.announcement(as_json), flush=True),
    )
    if not (as_json or flags["until_eof"]):
        print("stopped", file=sys.stderr)  # behind ^C


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m handglass.runtime.remote", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=9190, help="0: any free port")
    parser.add_argument("--key-file", type=Path, help="file with the shared key")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    parser.add_argument(
        "--runtime", type=Path, help="libtvm_runtime.so (default: that of apache-tvm)"
    )
    for kind in plugin_kinds():
        help_text = f"{kind.library}, for {kind.label} devices"
        parser.add_argument(f"--{kind.name}", type=Path, help=help_text)
    parser.add_argument(
        "--counter", type=Path, help="file with the count of QEMU's plug-in (docs/devices.md)"
    )
    parser.add_argument("--expose", action="store_true", help="allow a non-loopback address")
    parser.add_argument("--until-eof", action="store_true", help="exit when standard input ends")
    parser.add_argument("--json", action="store_true", help="print address and key as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
