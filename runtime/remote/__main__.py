"""`python -m handglass.runtime.remote`: the server of `handglass device serve`, without typer."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..devices.kinds import plugin_kinds


def main() -> int:
    flags = vars(_parser().parse_args())
    as_json = flags.pop("json")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process with threads should not fork
    from handglass.errors import HandglassError

    from .serving import Options, serve

    plugins = {kind.name: file for kind in plugin_kinds() if (file := flags.pop(kind.name))}
    try:
        serve(
            Options(**flags, plugins=plugins),
            lambda started: print(started.told(as_json), flush=True),
        )
    except HandglassError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m handglass.runtime.remote", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=9190, help="0: any that is free")
    parser.add_argument("--key-file", type=Path, help="a file with the shared key")
    parser.add_argument("--threads", type=int, help="CPU threads (one per core)")
    parser.add_argument(
        "--runtime", type=Path, help="libtvm_runtime.so (an installed apache-tvm's)"
    )
    for kind in plugin_kinds():
        words = f"{kind.library}, for devices of {kind.label}"
        parser.add_argument(f"--{kind.name}", type=Path, help=words)
    parser.add_argument("--expose", action="store_true", help="allow an address of the network")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    parser.add_argument("--json", action="store_true", help="say where it listens as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
