"""Reports a failed command: one message and one exit code per error class, no traceback.

With --json the message is a JSON object on standard output, so that a script always gets one.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import typer

from handglass.errors import DeviceError, HandglassError, InputError, UsageError
from handglass.runtime.system.exits import print_error

from .output import print_json

INTERNAL = 70

HOW_TO_REPORT = (
    "this is a bug in handglass; please report it with the output of 'handglass doctor' and of "
    "the same command run as 'handglass --debug ...'"
)

# Newer typer vendors click, older releases import it; BadParameter leads to the class in use.
ClickException: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


@dataclass(frozen=True)
class Failure:
    kind: str  # usage, input, device, mismatch, internal
    message: str
    exit_code: int
    hint: str = ""


def explain(error: BaseException, arguments: Sequence[str] = ()) -> Failure:
    """Classify an exception and format its message."""
    if isinstance(error, ClickException):
        message = error.format_message() + given_value(error, arguments)
        return Failure("usage", message, UsageError.exit_code, usage_hint(error))
    if isinstance(error, HandglassError) and error.exit_code != INTERNAL:
        kinds = (kind for kind in type(error).__mro__ if "exit_code" in vars(kind))
        kind = next(kinds).__name__.removesuffix("Error").lower()
        return Failure(kind, str(error), error.exit_code)
    if isinstance(error, MemoryError):
        message = "out of memory; close other programs, or compile with a smaller --context"
        return Failure("device", message, DeviceError.exit_code)
    if isinstance(error, OSError) and error.filename is not None:
        return explain_os_error(error)
    return Failure("internal", f"{type(error).__name__}: {error}", INTERNAL, HOW_TO_REPORT)


def given_value(error: BaseException, arguments: Sequence[str]) -> str:
    """Format the value passed to the flag, which typer's messages omit."""
    names = getattr(getattr(error, "param", None), "opts", ())
    following = pairwise(arguments)
    separate = [value for name, value in following if name in names]
    joined = [text.partition("=")[2] for text in arguments if text.partition("=")[0] in names]
    values = separate + [value for value in joined if value]
    return f" (given: {values[-1]!r})" if values else ""


def usage_hint(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    return f"see '{context.command_path} --help'" if context else ""


def explain_os_error(error: OSError) -> Failure:
    message = f"{error.filename}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("device", f"{message}; free some disk space", DeviceError.exit_code)
    return Failure("input", message, InputError.exit_code)


def report(error: BaseException, arguments: Sequence[str]) -> int:
    """Print the error as text or JSON and return the exit code."""
    failure = explain(error, arguments)
    if wants_debug(arguments):
        traceback.print_exception(error)
    if not (wants_json(arguments) and printed({"error": vars(failure)})):
        print_error(failure.message)
        if failure.hint:
            print(failure.hint, file=sys.stderr)
    return failure.exit_code


def printed(value: dict[str, Any]) -> bool:
    """Print to standard output; returns False if that is what failed."""
    try:
        print_json(value)
    except (DeviceError, OSError):
        return False
    return True


def wants_json(arguments: Sequence[str]) -> bool:
    """Check the raw arguments, since a usage error occurs before they are parsed."""
    return "--json" in arguments


def wants_debug(arguments: Sequence[str]) -> bool:
    return "--debug" in arguments or os.environ.get("HANDGLASS_DEBUG", "") not in ("", "0")
