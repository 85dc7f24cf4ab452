"""A shared library on disk, and the hash of what may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class SharedLibrary(NamedTuple):
    """`sha256` is empty for a library of this installation, which is trusted like Python itself."""

    path: Path
    sha256: str = ""
