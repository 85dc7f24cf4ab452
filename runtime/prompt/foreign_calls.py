"""Calls into the tokenizer libraries, whose every failure becomes an InputError.

Damaged files raise UnicodeDecodeError, KeyError, RuntimeError, plain Exception, and the
PanicException of Rust, which is not an Exception. A regular expression may take years; the call
then goes on in a thread of its own, which ends with the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from handglass.errors import HandglassError, InputError

T = TypeVar("T")
SECONDS = 2.0
_STDERR, _STDERR_NUMBER = threading.Lock(), 2
CHARACTERS_PER_SECOND = 100_000  # far below what the libraries reach


@contextmanager
def foreign(where: str, what: str) -> Iterator[None]:
    """Turn every failure inside into "WHERE: WHAT: REASON"."""
    try:
        yield
    except (HandglassError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(f"{where}: {what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The text of an error on one line, with control characters escaped."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what the libraries print about damaged files: panics, with backtraces.

    It concerns the whole process, so it is for the moment in which a file is opened.
    """
    with _STDERR:
        try:
            saved = os.dup(_STDERR_NUMBER)
        except OSError:  # closed
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, _STDERR_NUMBER)
        try:
            yield
        finally:
            os.dup2(saved, _STDERR_NUMBER)
            os.close(saved)
            os.close(null)


def within(seconds: float, call: Callable[[], T], where: str) -> T:
    """The result of `call`, made in another thread. Raises InputError if it takes too long."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="handglass-tokenizer", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise InputError(
            f"{where}: splitting the text takes more than {seconds:.0f} s; its regular "
            "expression is too slow for this text"
        )
    return results[0]


def seconds_for(text: str) -> float:
    return SECONDS + len(text) / CHARACTERS_PER_SECOND
