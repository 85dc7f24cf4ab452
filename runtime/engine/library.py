"""Loads a bundle's compiled library into TVM's runtime.

The runtime is looked for in the bundle, then in an installed apache-tvm.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from handglass.errors import DeviceError, MismatchError

from ..bundle.reader import LIBRARY, RUNTIME_LIBRARY, Bundle
from ..bundle.requirements import check_target
from ..devices.device_select import requested_device
from ..devices.kinds import KINDS
from ..execution.placement import Host, Placement
from ..execution.process import PROCESS, first_line
from ..execution.tvm_runtime import import_tvm_ffi, installed_runtime, start_runtime
from ..system.machine import this_machine
from .tile_permission import allow_tiles

if TYPE_CHECKING:
    from ..devices.device_info import DeviceInfo


class Loaded(NamedTuple):
    """A bundle's virtual machine, ready to be asked for functions by name, and where it computes.

    `device` is None on the CPU.
    """

    machine: Any
    placement: Placement
    device: DeviceInfo | None = None


def load_library(bundle: Bundle, threads: int | None = None, device: str | None = None) -> Loaded:
    """`device` is the text of --device; None: the first of the kind that the bundle is for."""
    target = bundle.manifest.target
    asked = requested_device(target, device, bundle.path)
    check_target(target, *this_machine())
    allow_tiles(target)
    tvm_ffi = _start_runtime(bundle, threads)
    if KINDS[asked.kind].is_host:
        host = Host()
        return Loaded(_start_machine(tvm_ffi, bundle, host), host)
    from ..devices.open_device import open_device

    placement, found = open_device(bundle, asked, find_runtime(bundle))
    return Loaded(_start_machine(tvm_ffi, bundle, placement), placement, found)


def _start_machine(tvm_ffi: Any, bundle: Bundle, placement: Placement) -> Any:
    path = bundle.file(LIBRARY).resolve()
    try:
        machine = _open_library(tvm_ffi, path)["vm_load_executable"]()
        machine["vm_initialization"](*placement.machine_devices)
    except (AttributeError, RuntimeError, OSError) as error:
        told = placement.translate_error(error)
        if isinstance(told, DeviceError):  # its constants did not fit, say
            raise told from error
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
    """The module in a file, the same one each time: what is loaded is never given back.

    dlopen goes by the name: of a file replaced under a name it knows it would return the old. A
    link with a name of its own makes it look at the file, and share it only if it is the same.
    """

    def load(path: Path) -> Any:
        with TemporaryDirectory(prefix="handglass-") as folder:
            link = Path(folder, path.name)
            link.symlink_to(path)
            return tvm_ffi.load_module(str(link))

    return PROCESS.module(path, load)


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
