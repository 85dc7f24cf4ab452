"""Loads a bundle's compiled library into TVM's runtime.

The runtime is looked for in the bundle, then in an installed apache-tvm.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handglass.errors import DeviceError, MismatchError

from .bundle import LIBRARY, RUNTIME_LIBRARY, Bundle
from .machine import check_target, this_machine
from .tiles import allow_tiles
from .tvm_runtime import first_line, import_tvm_ffi, installed_runtime, start_runtime

_CPU, _CPU_ID = 1, 0  # device type, device
# Allocator 1 gives memory back after each call. 2 pools it by exact size, so that every new length
# of a prompt leaves another set of buffers behind: 70 MB became 266 MB over 70 lengths.
_UNPOOLED = 1


def load_library(bundle: Bundle, threads: int | None = None) -> Any:
    """The bundle's virtual machine, ready to be asked for functions by name."""
    check_target(bundle.manifest.target, *this_machine())
    allow_tiles(bundle.manifest.target)
    tvm_ffi = _start_runtime(bundle, threads)
    path = bundle.file(LIBRARY).resolve()
    try:
        machine = _open_library(tvm_ffi, path)["vm_load_executable"]()
        machine["vm_initialization"](_CPU, _CPU_ID, _UNPOOLED)
    except (AttributeError, RuntimeError, OSError) as error:
        raise MismatchError(f"{path}: cannot be loaded: {first_line(error)}") from error
    return machine


def _start_runtime(bundle: Bundle, threads: int | None) -> Any:
    """tvm_ffi with TVM's runtime, both of the versions that the bundle was made with."""
    _check_version(bundle, "tvm_ffi", import_tvm_ffi().__version__)
    tvm = sys.modules.get("tvm")
    if tvm is not None:  # its own runtime came with it
        _check_version(bundle, "tvm", tvm.__version__)
    return start_runtime(lambda: find_runtime(bundle), threads)


def _open_library(tvm_ffi: Any, path: Path) -> Any:
    """dlopen goes by the name: of a file replaced under a name it knows it would return the old.

    A link with a name of its own makes it look at the file, and share it only if it is the same.
    """
    with TemporaryDirectory(prefix="handglass-") as folder:
        link = Path(folder, path.name)
        link.symlink_to(path)
        return tvm_ffi.load_module(str(link))


def find_runtime(bundle: Bundle) -> Path:
    """Where libtvm_runtime.so is; in the bundle it was hashed when the bundle was opened."""
    if RUNTIME_LIBRARY in bundle.manifest.files:
        return bundle.file(RUNTIME_LIBRARY).resolve()
    installed = installed_runtime()
    if installed is not None:
        _check_version(bundle, "tvm", _installed_version("apache-tvm"))
        return installed
    raise DeviceError(
        f"{RUNTIME_LIBRARY} is neither in the bundle nor in an installed apache-tvm; "
        "pip install apache-tvm==0.27.0.post1 --no-deps, or compile with the runtime included"
    )


def _check_version(bundle: Bundle, package: str, installed: str) -> None:
    """Bytecode and calling convention may change with a minor release, not with a patch."""
    wanted = bundle.manifest.versions.get(package, installed)
    if wanted.split(".")[:2] != installed.split(".")[:2]:
        raise MismatchError(
            f"{bundle.path}: compiled with {package} {wanted}, installed is {installed}; "
            "install that version or compile again"
        )


def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise DeviceError(f"{package} is present but its version is unknown") from error
