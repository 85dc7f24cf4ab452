"""The `handglass` command: registers the verbs and maps exceptions to exit codes.

Importing this module must stay cheap: `handglass --help` imports neither numpy nor TVM.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from handglass.runtime.system.exits import (
    INTERRUPTED,
    broken_pipe,
    ended_in,
    interrupted,
    output_error,
)
from handglass.runtime.system.platforms import check_platform
from handglass.runtime.system.streams import output_failed, prepare_streams

from .apply import apply
from .bench import bench
from .chat import chat
from .classify import classify
from .compile import compile_
from .deploy import deploy
from .device import serve as serve_device
from .doctor import doctor
from .embed import embed
from .errors import report
from .index import index
from .inspect import inspect
from .models import models
from .quickstart import quickstart
from .records import check, export, list_
from .records_import import import_
from .report import report as report_
from .run import run
from .search import search
from .serve import serve
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
    epilog="Exit codes: 2 usage, 3 bad input, 4 device, 5 mismatch, 70 a bug in handglass.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order in which a new user needs them.
VERBS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart,
    "doctor": doctor,
    "targets": targets,
    "models": models,
    "compile": compile_,
    "tune": tune,
    "inspect": inspect,
    "deploy": deploy,
    "run": run,
    "chat": chat,
    "serve": serve,
    "embed": embed,
    "classify": classify,
    "index": index,
    "search": search,
    "apply": apply,
    "verify": verify,
    "bench": bench,
    "report": report_,
}

# Command groups: help text and verbs of each group.
GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "device": ("Let another machine tune on this one.", {"serve": serve_device}),
    "records": (
        "List, check, import and export tuning records.",
        {"list": list_, "check": check, "import": import_, "export": export},
    ),
}


class UnreadError(Exception):
    """The reader closed the output pipe. Typer would turn a BrokenPipeError into exit code 1."""


def guarded(name: str, verb: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(verb)
    def call(*args: Any, **kwargs: Any) -> None:
        check_platform(name)
        try:
            verb(*args, **kwargs)
        except BrokenPipeError as error:
            raise UnreadError from error

    return call


for name, verb in VERBS.items():
    app.command(name)(guarded(name, verb))

for group, (help_text, verbs) in GROUPS.items():
    members = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
    for name, verb in verbs.items():
        members.command(name)(guarded(f"{group} {name}", verb))
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
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of every verb; --debug is read from the raw arguments before they are parsed."""


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises."""
    try:
        code = get_command(app).main(list(arguments), "handglass", standalone_mode=False)
        sys.stdout.flush()
        ended_by()  # the command is already complete
    except (BrokenPipeError, UnreadError):
        return broken_pipe()
    except (KeyboardInterrupt, typer.Abort):
        ended_by()
        return interrupted()
    except SystemExit as exit_request:
        ended_by()
        return exit_request.code if isinstance(exit_request.code, int) else 1
    except Exception as error:  # noqa: BLE001  the top-level handler
        if number := ended_by():  # C++ converted the signal's exception into this error
            return interrupted() if number == signal.SIGINT else 128 + number
        if isinstance(error, OSError) and output_failed():
            error = output_error(error)
        return ended_in(report(error, arguments))
    return interrupted() if code == INTERRUPTED else int(code or 0)


def main() -> None:
    prepare_streams()
    if sys.platform != "win32":  # whose verbs are refused
        end_by_exception()
    code = execute(sys.argv[1:])
    if (worker := sys.modules.get("handglass.runtime.engine.worker")) is not None:
        worker.end_threads(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
