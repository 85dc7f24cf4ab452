"""What this process has loaded: TVM's runtime, plug-ins for devices, libraries of bundles.

Nothing can be unloaded. Each library is loaded once, under one lock, and reused.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from handglass.errors import DeviceError

from ..system.sealed_copy import load_library
from ..system.shared_library import SharedLibrary

RUNTIME = "TVM's runtime"


class LoadedLibraries:
    """The process has one instance, `PROCESS`; tests create their own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shared: dict[str, ctypes.CDLL] = {}
        self._modules: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether the shared library `name` was loaded by this object."""
        return name in self._shared

    def load(
        self, name: str, locate: Callable[[], SharedLibrary], mode: int = ctypes.DEFAULT_MODE
    ) -> None:
        """Load the shared library `name`; `locate` is called only the first time.

        Raises DeviceError if it cannot be loaded, MismatchError if its hash differs.
        """
        with self.lock:
            if name in self._shared:
                return
            library = locate()
            try:
                self._shared[name] = load_library(library, lambda path: ctypes.CDLL(path, mode))
            except OSError as error:
                raise DeviceError(
                    f"{library.path}: cannot be loaded: {first_line(error)}"
                ) from error

    def module(self, library: SharedLibrary, load: Callable[[SharedLibrary], Any]) -> Any:
        """The module of a library with a hash; the same object for the same content."""
        with self.lock:
            if library.sha256 not in self._modules:
                self._modules[library.sha256] = load(library)
            return self._modules[library.sha256]


PROCESS = LoadedLibraries()


def first_line(error: BaseException) -> str:
    """The first line of the error message, or the name of the error's type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
