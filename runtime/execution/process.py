"""What this process has loaded: TVM's runtime, plug-ins for devices, libraries of bundles.

Nothing can be unloaded. Each library is loaded once, under one lock, and reused.
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
    """The process has one instance, `PROCESS`; tests create their own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shared: dict[str, ctypes.CDLL] = {}
        self._modules: dict[tuple[int, int], Any] = {}

    def has(self, name: str) -> bool:
        """Whether the shared library `name` was loaded by this object."""
        return name in self._shared

    def load(self, name: str, locate: Callable[[], Path], mode: int = ctypes.DEFAULT_MODE) -> None:
        """Load the shared library `name`; `locate` is called only the first time.

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
        """The module of the file at `path`; the same object for the same file.

        A file is identified by device and inode, which are not reused while the file is mapped.
        """
        with self.lock:
            stat = path.stat()
            key = stat.st_dev, stat.st_ino
            if key not in self._modules:
                self._modules[key] = load(path)
            return self._modules[key]


PROCESS = LoadedLibraries()


def first_line(error: BaseException) -> str:
    """The first line of the error message, or the name of the error's type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
