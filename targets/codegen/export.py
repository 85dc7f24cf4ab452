"""Exports built code as a shared library, so that a full disk is an error and not the end.

LLVM ends the process if it cannot write an object file. So TVM writes its object files into memory,
through links in the folder that it is given; the linker reads them from there and reports a full
disk like any other failure. Everything temporary is beside the library: /tmp may be full.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handglass.errors import DeviceError

from ..linking.linker import Linker

OBJECTS = (*(f"lib{number}.o" for number in range(8)), "devc.o")
"""The names that TVM's export_library gives to its object files."""


def export_library(built: Any, path: Path, linker: Linker) -> None:
    """Link a built module or executable to `path`. Raises DeviceError if that fails."""
    try:
        with _workspace(path.parent) as folder:
            built.export_library(str(path), fcompile=linker, workspace_dir=folder)
    except OSError as error:
        raise DeviceError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _workspace(parent: Path) -> Iterator[str]:
    """A folder whose object files are links to memory files, where Linux has them."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix=".objects-", dir=parent))
        for name in OBJECTS if _has_memory_files() else ():
            memory = os.memfd_create(name, os.MFD_CLOEXEC)
            stack.callback(os.close, memory)
            # The linker is another process, for which /proc/self would be its own.
            Path(folder, name).symlink_to(f"/proc/{os.getpid()}/fd/{memory}")
        yield folder


def _has_memory_files() -> bool:
    return hasattr(os, "memfd_create") and Path(f"/proc/{os.getpid()}/fd").exists()
