"""Reads lines from a terminal: history, editing, completion of paths, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TextIO

from .picture_paths import expanded
from .signals import ended_by

PROMPT = "> "
HOW_TO_LEAVE = "press Ctrl-C again to leave, or type /exit"


class TerminalLines(Iterator[str]):
    """Lines until Ctrl-D, or until Ctrl-C is pressed twice at an empty prompt.

    `commands` are completed at the beginning of a line, paths after those `with_paths`. This is no
    generator, which an interrupt between two lines would end.
    """

    def __init__(self, commands: Sequence[str], with_paths: Sequence[str] = ("/image",)) -> None:
        self._readline = _readline(commands, with_paths)
        self._is_leaving = False

    def __next__(self) -> str:
        while True:
            try:
                line = entered(PROMPT)
                self._is_leaving = False
                return line
            except EOFError:
                print(file=sys.stderr)
                raise StopIteration from None
            except KeyboardInterrupt:
                ended_by()
                self._stop_or_go_on()

    def _stop_or_go_on(self) -> None:
        print(file=sys.stderr)
        is_empty = self._readline is None or not self._readline.get_line_buffer()
        if is_empty and self._is_leaving:
            raise StopIteration
        self._is_leaving = is_empty
        if is_empty:
            print(HOW_TO_LEAVE, file=sys.stderr)


def confirmed(question: str) -> bool:
    """Ask a question on the terminal; Ctrl-C and Ctrl-D are a no."""
    try:
        return entered(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print(file=sys.stderr)
    except KeyboardInterrupt:
        ended_by()
        print(file=sys.stderr)
    return False


def entered(prompt: str) -> str:
    """A line. Where standard output is a file, the prompt is no part of it."""
    if sys.stdout.isatty():
        return input(prompt)
    print(prompt, end="", file=sys.stderr, flush=True)
    return input()


def takes_codes(stream: TextIO) -> bool:
    """Whether a stream is a terminal that follows escape codes."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def completions(
    line: str, commands: Sequence[str], with_paths: Sequence[str] = ("/image",)
) -> list[str]:
    """What a line may become: a command, or one with a path; folders end in a slash."""
    command, space, rest = line.partition(" ")
    if not space or command not in with_paths:
        return [f"{name} " for name in commands if line and name.startswith(line)]
    folder, slash, start = rest.lstrip().rpartition("/")
    names = _names(expanded(folder + slash or "."), start)
    return [f"{command} {folder}{slash}{name}" for name in names]


def _names(folder: Path, start: str) -> list[str]:
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(start))
        return [f"{path.name}/" if path.is_dir() else path.name for path in found]
    except (OSError, ValueError):
        return []


def _readline(commands: Sequence[str], with_paths: Sequence[str]) -> ModuleType | None:
    """Set up completion; None if this Python has no readline."""
    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer_delims("")  # a path may contain spaces
        readline.set_completer(_completer(commands, with_paths))
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        return readline
    return None


def _completer(
    commands: Sequence[str], with_paths: Sequence[str]
) -> Callable[[str, int], str | None]:
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            found[:] = completions(text, commands, with_paths)
        return found[state] if state < len(found) else None

    return complete
