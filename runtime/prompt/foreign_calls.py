"""Calls into the tokenizer libraries, whose every failure becomes an InputError.

Damaged files raise UnicodeDecodeError, KeyError, RuntimeError, plain Exception, and the
PanicException of Rust, which is not an Exception. A regular expression may take years; the call
then goes on in a thread of its own, which ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from handglass.errors import HandglassError, InputError

T = TypeVar("T")
SECONDS = 2.0
CHARACTERS_PER_SECOND = 100_000  # far below what the libraries reach


@contextmanager
def foreign(where: str, what: str) -> Iterator[None]:
    """Turn every failure inside into "WHERE: WHAT: REASON"."""
    try:
        yield
    except (HandglassError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{where}: {what}: {reason}") from error


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
