"""Reads lines from a terminal: history, editing, completion of paths, Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from .picture_paths import expanded
from .signals import ended_by

HOW_TO_LEAVE = "press Ctrl-C again to leave, or type /exit"


def read_lines(commands: Sequence[str]) -> Iterator[str]:
    """Yield lines until Ctrl-D, or until Ctrl-C is pressed twice at an empty prompt.

    `commands` are completed at the beginning of a line, paths after `/image`.
    """
    readline = _readline(commands)
    is_leaving = False
    while True:
        try:
            line = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            ended_by()
            print(file=sys.stderr)
            is_empty = readline is None or not readline.get_line_buffer()
            if is_empty and is_leaving:
                return
            is_leaving = is_empty
            if is_leaving:
                print(HOW_TO_LEAVE, file=sys.stderr)
        else:
            is_leaving = False
            yield line


def confirmed(question: str) -> bool:
    """Ask a question on the terminal; Ctrl-C and Ctrl-D are a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print(file=sys.stderr)
    except KeyboardInterrupt:
        ended_by()
        print(file=sys.stderr)
    return False


def completions(line: str, commands: Sequence[str]) -> list[str]:
    """What a line may become: a command, or `/image` with a path; folders end in a slash."""
    if not line.startswith("/image "):
        return [f"{name} " for name in commands if line and name.startswith(line)]
    folder, slash, start = line.removeprefix("/image ").lstrip().rpartition("/")
    names = _names(expanded(folder + slash or "."), start)
    return [f"/image {folder}{slash}{name}" for name in names]


def _names(folder: Path, start: str) -> list[str]:
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(start))
        return [f"{path.name}/" if path.is_dir() else path.name for path in found]
    except (OSError, ValueError):
        return []


def _readline(commands: Sequence[str]) -> ModuleType | None:
    """Set up completion; None if this Python has no readline."""
    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer_delims("")  # a path may contain spaces
        readline.set_completer(_completer(commands))
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        return readline
    return None


def _completer(commands: Sequence[str]) -> Callable[[str, int], str | None]:
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            found[:] = completions(text, commands)
        return found[state] if state < len(found) else None

    return complete
