"""Standard streams that are closed, full, or in an encoding that lacks a character.

A closed stream becomes /dev/null: otherwise the next file that is opened would get its number, and
messages would be written into it. Characters that the encoding lacks are escaped. Messages that
cannot be written to standard error are lost, and the command goes on; a result that cannot be
written to standard output is an error of class "device", standard input that cannot be read one of
class "input".
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from handglass.errors import InputError

from .printable import answer_text

STDIN, STDOUT, STDERR = 0, 1, 2


def prepare_streams() -> None:
    """Replace the three streams of this process; before anything else is opened."""
    for number in (STDIN, STDOUT, STDERR):
        _open_if_closed(number)
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115
    with contextlib.suppress(AttributeError):  # a stream of a test
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    sys.stdout = _text(io.FileIO(STDOUT, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(Messages(STDERR, "wb", closefd=False), sys.stderr, line_buffering=True)


def input_lines() -> Iterator[str]:
    """The lines of standard input; raises InputError if it cannot be read."""
    try:
        yield from sys.stdin
    except OSError as error:
        raise InputError(f"standard input: {error.strerror or error}") from error


def print_answer(text: str, end: str = "\n") -> None:
    """Print what a model said: escaped on a terminal, exact to a file or a pipe."""
    print(answer_text(text) if sys.stdout.isatty() else text, end=end, flush=True)


def output_failed() -> bool:
    """Whether standard output cannot take what is waiting in its buffer.

    Its errors are not translated where they occur: a signal's exception in a Python method `write`
    would make the buffer write the text twice.
    """
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def discard_output() -> None:
    """Keep the interpreter from writing the rest of standard output when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)


class Messages(io.FileIO):
    """Standard error, which accepts everything."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        with contextlib.suppress(OSError):
            return super().write(data)
        return len(data)


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _text(raw: io.FileIO, old: Any, line_buffering: bool = False) -> io.TextIOWrapper:
    if old is not None:
        old.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
    )
