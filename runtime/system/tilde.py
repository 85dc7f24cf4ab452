"""Refuses paths to write whose `~` the shell has left as it is.

The shell expands `~` and `~USER` only at the start of a word, and only for a home folder that it
finds. Otherwise a folder of this name would be made where the command runs.
"""

from __future__ import annotations

import os
from pathlib import Path

from handglass.errors import UsageError


def check_expanded(path: str | os.PathLike[str]) -> None:
    """Raise UsageError if the path begins with `~`; `./~` is a file of this name."""
    first = next(iter(Path(path).parts), "")
    if first.startswith("~") and not os.fspath(path).startswith("./"):
        raise UsageError(
            f"{os.fspath(path)}: {first!r} was not expanded to a home folder; write the path in "
            f"full, or ./{first} for a file of this name"
        )
