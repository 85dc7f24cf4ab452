"""What this process has loaded: TVM's runtime, plug-ins for devices, libraries of bundles.

None of it can be unloaded. Each is loaded once, under one lock, and handed out again.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError

RUNTIME = "TVM's runtime"


class LoadedLibraries:
    """One owner per process: `PROCESS`. Tests make their own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shared: dict[str, ctypes.CDLL] = {}
        self._modules: dict[tuple[int, int], Any] = {}

    def has(self, name: str) -> bool:
        """Whether the shared library called `name` was loaded through this."""
        return name in self._shared

    def load(self, name: str, locate: Callable[[], Path], mode: int = ctypes.DEFAULT_MODE) -> None:
        """Load the shared library called `name`; `locate` is asked only the first time.

        Raises DeviceError if the file cannot be loaded.
        """
        with self.lock:
            if name in self._shared:
                return
            path = locate()
            try:
                self._shared[name] = ctypes.CDLL(str(path), mode)
            except OSError as error:
                raise DeviceError(f"{path}: cannot be loaded: {first_line(error)}") from error

    def module(self, path: Path, load: Callable[[Path], Any]) -> Any:
        """The module in the file at `path`, the same one for the same file.

        A file is known by device and inode: those of a mapped file are not given to another.
        """
        with self.lock:
            found = path.stat()
            key = found.st_dev, found.st_ino
            if key not in self._modules:
                self._modules[key] = load(path)
            return self._modules[key]


PROCESS = LoadedLibraries()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
