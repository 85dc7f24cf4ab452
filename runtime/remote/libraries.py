"""The libraries that a client has sent: stored in the session's folder, loaded on request."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError, InputError, MismatchError

from ..execution.instruction_counter import Span, code_spans
from ..execution.process import first_line
from ..execution.thread_pool import POOL
from ..execution.tvm_runtime import load_module, start_runtime
from ..system.machine import thread_count
from ..system.shared_library import SharedLibrary

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}")


class Libraries:
    """Stores and loads libraries; `runtime` (libtvm_runtime.so) is loaded before the first one."""

    def __init__(self, folder: Path, runtime: SharedLibrary, threads: int | None) -> None:
        self._folder, self._runtime, self._threads = folder, runtime, threads
        self._stored: dict[str, SharedLibrary] = {}
        self._loaded: dict[str, Any] = {}
        self._spans: dict[str, frozenset[Span]] = {}
        self._count = 0

    def start(self) -> Any:
        """Load TVM's runtime if necessary; returns tvm_ffi."""
        POOL.threads = thread_count(self._threads)
        return start_runtime(lambda: self._runtime)

    def put(self, name: str, sha256: str, data: bytes) -> None:
        """Store a library. Raises InputError, MismatchError (wrong hash) or DeviceError (disk)."""
        if not NAME.fullmatch(name):
            raise InputError(f"name {name!r:.80} must match {NAME.pattern}")
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise MismatchError(f"{name}: sha256 is {actual}, expected {sha256!r:.80}")
        self._count += 1
        path = self._folder / f"{self._count}-{name}.so"
        _write(path, data)
        if name in self._stored:
            self.drop(name)
        self._stored[name] = SharedLibrary(path, sha256)

    def load(self, name: str) -> None:
        """Load a stored library, which runs its initializers. Raises MismatchError."""
        stored = self._find(name)
        if name in self._loaded:
            return
        tvm_ffi = self.start()
        before = code_spans()
        try:
            self._loaded[name] = module = load_module(tvm_ffi, stored)
        except (RuntimeError, OSError, ValueError) as error:
            raise MismatchError(f"{name}: cannot be loaded: {first_line(error)}") from error
        self._spans[name] = code_spans() - before
        POOL.attach(module)

    def code_of(self, name: str) -> Span:
        """Addresses of a loaded library's code. Raises DeviceError if they were not found."""
        self._find(name)
        found = self._spans.get(name, frozenset())
        if len(found) != 1:
            raise DeviceError(f"{name}: {len(found)} new ranges of code after loading, expected 1")
        (span,) = found
        return span

    def function(self, name: str, function: str) -> Any:
        self._find(name)
        if name not in self._loaded:
            raise InputError(f"{name}: the library is not loaded; load it first")
        try:
            return self._loaded[name][function]
        except AttributeError as error:
            raise MismatchError(f"{name}: the library has no function {function!r}") from error

    def drop(self, name: str) -> None:
        stored = self._find(name)
        self._loaded.pop(name, None)
        del self._stored[name]
        stored.path.unlink(missing_ok=True)

    def _find(self, name: str) -> SharedLibrary:
        if name not in self._stored:
            raise InputError(f"this session has no library {name!r:.80}; put it first")
        return self._stored[name]


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DeviceError(
            f"{path}: cannot store {len(data)} bytes: {error.strerror}; free disk space on "
            "the device, or start the server with TMPDIR on another disk"
        ) from error
