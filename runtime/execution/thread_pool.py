"""The thread pool of this process, which all compiled libraries share (runtime/threads/pool.c).

Every library contains the pool. The process uses that of the first library that it loads.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

_SYSTEM = ("pthread_create", "pthread_detach", "clock_gettime", "syscall")


class ThreadPool:
    """The process has one instance, `POOL`."""

    def __init__(self) -> None:
        self._owner: Any = None
        self._launch = 0
        self._threads = 1

    @property
    def threads(self) -> int:
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        """Set the number of threads of the following parallel loops."""
        self._threads = count
        if self._owner is not None:
            _function(self._owner, "threads")(count)

    def attach(self, library: Any) -> bool:
        """Run the parallel loops of a loaded tvm_ffi module in this pool.

        Returns False if it has no pool: another compiler built it, or an older handglass.
        """
        try:
            use = _function(library, "use")
        except AttributeError:
            return False
        if self._owner is None:
            self._start(library)
        use(self._launch)
        return True

    def _start(self, library: Any) -> None:
        libc = ctypes.CDLL(None)
        addresses = [ctypes.cast(getattr(libc, name), ctypes.c_void_p).value for name in _SYSTEM]
        self._launch = _function(library, "start")(*addresses)
        self._owner = library
        self.threads = self._threads
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A child of a fork has none of its parent's workers; it starts its own."""
        _function(self._owner, "forget")()


def _function(library: Any, name: str) -> Any:
    """The root module of a library is its virtual machine, which imports the compiled code."""
    return library.get_function(f"handglass_pool_{name}", query_imports=True)


POOL = ThreadPool()
