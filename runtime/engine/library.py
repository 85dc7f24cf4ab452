"""Loads the compiled library of a bundle into TVM's runtime.

The runtime library comes from the bundle if it has one, otherwise from an installed apache-tvm.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from handglass.errors import DeviceError, MismatchError

from ..bundle.reader import LIBRARY, RUNTIME_LIBRARY, Bundle
from ..bundle.requirements import check_target
from ..devices.device_select import requested_device
from ..devices.kinds import KINDS
from ..execution.placement import Host, Placement
from ..execution.process import PROCESS, first_line
from ..execution.thread_pool import POOL
from ..execution.tvm_runtime import (
    import_tvm_ffi,
    installed_runtime,
    load_module,
    start_runtime,
)
from ..system.machine import this_machine, thread_count
from ..system.packages import installed_version
from ..system.shared_library import SharedLibrary
from .tile_permission import allow_tiles

if TYPE_CHECKING:
    from ..devices.device_info import DeviceInfo


class Loaded(NamedTuple):
    """The initialized virtual machine of a bundle and the placement of its tensors.

    `machine[name]` is a function of the library, `threads` the number of CPU threads for it.
    `device` is None on the CPU.
    """

    machine: Any
    placement: Placement
    threads: int
    device: DeviceInfo | None = None


def load_library(bundle: Bundle, threads: int | None = None, device: str | None = None) -> Loaded:
    """Check that this machine can run the bundle, then load its library.

    `device` is the value of --device; None selects the first device of the bundle's kind. Raises
    UsageError, DeviceError or MismatchError.
    """
    target = bundle.manifest.target
    request = requested_device(target, device, bundle.path)
    check_target(target, *this_machine())
    allow_tiles(target)
    count = thread_count(threads)
    tvm_ffi = _start_runtime(bundle)
    if KINDS[request.kind].is_host:
        host = Host()
        return Loaded(_start_machine(tvm_ffi, bundle, host), host, count)
    from ..devices.open_device import open_device

    placement, opened = open_device(bundle, request, find_runtime(bundle))
    return Loaded(_start_machine(tvm_ffi, bundle, placement), placement, count, opened)


def _start_machine(tvm_ffi: Any, bundle: Bundle, placement: Placement) -> Any:
    library = bundle.library(LIBRARY)
    try:
        machine = _open_library(tvm_ffi, library)["vm_load_executable"]()
        machine["vm_initialization"](*placement.machine_devices)
    except (AttributeError, RuntimeError, OSError) as error:
        translated = placement.translate_error(error)
        if isinstance(translated, DeviceError):  # for example, its constants did not fit
            raise translated from error
        raise MismatchError(f"{library.path}: cannot be loaded: {first_line(error)}") from error
    return machine


def _start_runtime(bundle: Bundle) -> Any:
    """tvm_ffi with TVM's runtime loaded, both of the versions that compiled the bundle."""
    _check_version(bundle, "tvm_ffi", import_tvm_ffi().__version__)
    tvm = sys.modules.get("tvm")
    if tvm is not None:  # it has loaded its own runtime
        _check_version(bundle, "tvm", tvm.__version__)
    return start_runtime(lambda: find_runtime(bundle))


def _open_library(tvm_ffi: Any, library: SharedLibrary) -> Any:
    """The module of a library; the same object for the same content: it is never unloaded."""

    def load(library: SharedLibrary) -> Any:
        module = load_module(tvm_ffi, library)
        if not POOL.attach(module):
            raise MismatchError(f"{library.path}: the library has no thread pool; compile again")
        return module

    return PROCESS.module(library, load)


def find_runtime(bundle: Bundle) -> SharedLibrary:
    """libtvm_runtime.so, from the bundle or from apache-tvm.

    Raises DeviceError if there is none, MismatchError if the installed version differs.
    """
    if RUNTIME_LIBRARY in bundle.manifest.files:
        return bundle.library(RUNTIME_LIBRARY)
    installed = installed_runtime()
    if installed is not None:
        _check_version(bundle, "tvm", _installed_version("apache-tvm"))
        return SharedLibrary(installed)
    raise DeviceError(
        f"{RUNTIME_LIBRARY} is neither in the bundle nor in an installed apache-tvm; "
        "pip install apache-tvm==0.27.0.post1 --no-deps, or compile with the runtime included"
    )


def _check_version(bundle: Bundle, package: str, installed: str) -> None:
    """Bytecode and calling convention may change in a minor release, but not in a patch release."""
    wanted = bundle.manifest.versions.get(package, installed)
    if wanted.split(".")[:2] != installed.split(".")[:2]:
        raise MismatchError(
            f"{bundle.path}: compiled with {package} {wanted}, but {installed} is installed; "
            "install that version or compile again"
        )


def _installed_version(package: str) -> str:
    found = installed_version(package)
    if found is None:
        raise DeviceError(
            f"{package}: its library is installed but its version is unknown; reinstall it with pip"
        )
    return found
