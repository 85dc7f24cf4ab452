"""How a program ends: one message and one exit code, whatever its standard streams are.

Shared by the `handglass` command and the modules that run without typer (`run_module`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from handglass.errors import DeviceError, HandglassError

from .printable import printable
from .streams import discard_output, output_failed, prepare_streams

INTERRUPTED = 130  # 128 + SIGINT
BROKEN_PIPE = 141  # 128 + SIGPIPE
LONGEST = 4000  # characters of a message


def run_module(body: Callable[[], None]) -> int:
    """Run the program of a module and return its exit code.

    An unexpected exception passes: its traceback is the report of a bug.
    """
    prepare_streams()
    try:
        return _code_of(body)
    except BrokenPipeError:
        return broken_pipe()
    except KeyboardInterrupt:
        return interrupted()
    except HandglassError as error:
        return _told(error)
    except OSError as error:
        if not output_failed():
            raise
        return _told(output_error(error))


def output_error(error: OSError) -> DeviceError:
    """The error of a command whose standard output does not take its result."""
    return DeviceError(f"standard output: {error.strerror}")


def print_error(message: str) -> None:
    print(f"error: {printable(shortened(message), lines=True)}", file=sys.stderr)


def shortened(message: str) -> str:
    """A message may quote a file; the rest of a very long one helps nobody."""
    cut = message[:LONGEST]
    return message if cut == message else f"{cut} ... ({len(message)} characters)"


def ended_in(code: int) -> int:
    """The exit code, once all output is written or cannot be."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
    return code


def interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def broken_pipe() -> int:
    """Exit quietly and keep the interpreter from flushing into the closed pipe."""
    discard_output()
    return BROKEN_PIPE


def _code_of(body: Callable[[], None]) -> int:
    """Run it and write its output; argparse ends in SystemExit, after a message or a help text."""
    code = 0
    try:
        body()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if code:
        return ended_in(code)
    sys.stdout.flush()
    return 0


def _told(error: HandglassError) -> int:
    print_error(str(error))
    return ended_in(error.exit_code)
