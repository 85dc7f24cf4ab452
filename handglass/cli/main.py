"""The command `handglass`: collects the verbs, turns whatever they raise into an exit code.

Importing this module must stay cheap: `handglass --help` imports no numpy, no tvm, no model.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from .bench import bench
from .chat import chat
from .compile import compile_
from .deploy import deploy
from .device import serve
from .doctor import doctor
from .errors import BROKEN_PIPE, INTERRUPTED, report
from .inspect import inspect
from .records import check, export, list_
from .records_import import import_
from .run import run
from .signals import end_by_exception, ended_by
from .targets import targets
from .tune import tune
from .verify import verify

app = typer.Typer(
    help="MiniCPM-V compiled for the device in your hand.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    epilog="Exit codes: 2 usage, 3 bad input, 4 device, 5 mismatch, 70 a defect of ours.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order in which a newcomer meets them.
VERBS: dict[str, Callable[..., None]] = {
    "doctor": doctor,
    "targets": targets,
    "compile": compile_,
    "tune": tune,
    "inspect": inspect,
    "deploy": deploy,
    "run": run,
    "chat": chat,
    "verify": verify,
    "bench": bench,
}

# Verbs that belong together are a group with verbs of its own, and a word about it.
GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "device": ("Serve this machine to another one that tunes.", {"serve": serve}),
    "records": (
        "What tuning found out: list, check, import and export it.",
        {"list": list_, "check": check, "import": import_, "export": export},
    ),
}


class UnreadError(Exception):
    """Nobody reads our output any more. Typer would answer a BrokenPipeError with exit code 1."""


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(verb)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except BrokenPipeError as error:
            raise UnreadError from error

    return call


for name, verb in VERBS.items():
    app.command(name)(guarded(verb))

for group, (words, verbs) in GROUPS.items():
    members = typer.Typer(help=words, no_args_is_help=True, rich_markup_mode=None)
    for name, verb in verbs.items():
        members.command(name)(guarded(verb))
    app.add_typer(members, name=group)


def print_version(wanted: bool) -> None:
    if wanted:
        from handglass import __version__

        print(f"handglass {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error, as HANDGLASS_DEBUG=1 does."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Options of every verb; --debug is read from the raw arguments, before anything can fail."""


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises."""
    try:
        code = get_command(app).main(list(arguments), "handglass", standalone_mode=False)
        sys.stdout.flush()
        ended_by()  # too late to stop anything
    except (BrokenPipeError, UnreadError):
        return broken_pipe()
    except (KeyboardInterrupt, typer.Abort):
        ended_by()
        return interrupted()
    except SystemExit as leaving:
        ended_by()
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:  # noqa: BLE001  the one place where everything ends
        if number := ended_by():  # the error is what C++ made of the signal's exception
            return interrupted() if number == signal.SIGINT else 128 + number
        return report(error, arguments)
    return interrupted() if code == INTERRUPTED else int(code or 0)


def interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def broken_pipe() -> int:
    """Nobody reads on: leave quietly, and keep the interpreter from flushing into the pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def main() -> None:
    end_by_exception()
    sys.exit(execute(sys.argv[1:]))


if __name__ == "__main__":
    main()
