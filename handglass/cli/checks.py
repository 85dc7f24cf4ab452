"""Checks of `handglass doctor`. Anything that could crash runs in a child process.

A check is ok, broken (a package does not work, or a required one is missing) or informational. A
machine without the compiler can still run bundles, so a missing compiler is not an error.
"""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from handglass import __version__
from handglass.errors import DeviceError
from handglass.runtime.system.isolated import run_isolated
from handglass.runtime.system.packages import installed_version

from .output import size_text

RUNTIME_PACKAGES = ("numpy", "Pillow", "tokenizers", "sentencepiece", "apache-tvm-ffi")
FFI_PIN = "0.1.14.post1"
INSTALL_COMPILER = "pip install 'handglass[compile]'"

SAVE_JSON = """
import sys
sys.modules["torch"] = None  # TVM imports it where it is installed, for 2 s
import tvm
from tvm import te
a = te.placeholder((4,), "float32", name="a")
tvm.ir.save_json(te.create_prim_func([a, te.compute((4,), lambda i: a[i] + 1.0, name="b")]))
"""

LOAD_RUNTIME = """
import ctypes, sys
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi
tvm_ffi = import_tvm_ffi()
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
tvm_ffi.get_global_func("vm.builtin.copy")
"""


ASK_FOR_TILES = """
from handglass.runtime.system.tiles import ask_for_tiles
raise SystemExit(ask_for_tiles())
"""


@dataclass(frozen=True)
class Check:
    name: str
    value: str
    ok: bool | None = None  # None: informational
    hint: str = ""


def importing_compiler(allow_pickle: bool = False) -> AbstractContextManager[None]:
    """The block that imports the compiler: without an installed torch, unless it reads pickles.

    Raises DeviceError if the TVM compiler is not installed.
    """
    if not has_compiler():
        raise DeviceError(f"compiling needs the TVM compiler: {INSTALL_COMPILER}")
    from handglass.runtime.system.packages import without_torch

    return nullcontext() if allow_pickle else without_torch()


def all_checks() -> list[Check]:
    from handglass.runtime.execution.tvm_runtime import installed_runtime

    return [
        Check("handglass", __version__),
        Check("python", f"{platform.python_version()} on {platform.platform()}"),
        *(package_check(name) for name in RUNTIME_PACKAGES),
        Check("torch", installed_version("torch") or "not installed; nothing at run time needs it"),
        compiler_check(),
        ffi_pin_check(),
        c_compiler_check(),
        runtime_library_check(installed_runtime()),
        *machine_checks(),
        *device_checks(),
    ]


def package_check(name: str) -> Check:
    found = installed_version(name)
    if found:
        return Check(name, found, True)
    return Check(name, "not installed", False, f"needed to run a bundle: pip install {name}")


def has_compiler() -> bool:
    """Whether the whole package is installed, not only its folder with the runtime library."""
    spec = find_spec("tvm")
    whole = spec is not None and spec.origin is not None
    return whole and installed_version("apache-tvm") is not None


def compiler_check() -> Check:
    if has_compiler():
        return Check("apache-tvm", installed_version("apache-tvm") or "", True)
    return Check("apache-tvm", f"not installed; only compiling needs it ({INSTALL_COMPILER})")


def ffi_pin_check() -> Check:
    """Check `save_json`: other releases of tvm-ffi crash in it; tuning and intrinsics need it."""
    name = "tvm.ir.save_json"
    if not has_compiler():
        return Check(name, "not run: no compiler")
    code = child(SAVE_JSON)
    if code == 0:
        return Check(name, "works", True)
    hint = f"pip install apache-tvm-ffi=={FFI_PIN} (found {installed_version('apache-tvm-ffi')})"
    return Check(name, f"fails in a child process (exit {code})", False, hint)


def c_compiler_check() -> Check:
    from handglass.errors import DeviceError
    from handglass.targets import known_targets
    from handglass.targets.linking.linker import find_linker

    target = next(iter(known_targets().values()))
    try:
        return Check("C compiler", find_linker(target).command[0], True)
    except DeviceError as error:
        broken = False if has_compiler() else None
        return Check("C compiler", "none found", broken, str(error) if has_compiler() else "")


def runtime_library_check(path: Path | None) -> Check:
    if path is None:
        return Check("runtime library", "not installed; bundles compiled with --runtime contain it")
    if child(LOAD_RUNTIME, str(path)) == 0:
        return Check("runtime library", str(path), True)
    return Check("runtime library", f"{path} does not load", False, "reinstall apache-tvm")


def machine_checks() -> list[Check]:
    from handglass.runtime.system.hardware import read_machine
    from handglass.targets import known_targets

    machine, host = read_machine(), known_targets().get("host")
    facts = [
        Check("processor", f"{machine.model} ({machine.architecture})"),
        thread_check(),
        Check("memory", size_text(machine.memory) if machine.memory else "unknown"),
    ]
    if host is None:
        return [*facts, Check("host target", f"none for {machine.architecture}", False)]
    features = " ".join(host.features) or "none beyond the baseline"
    return [
        *facts,
        Check("host target", " ".join([host.cpu, *host.mattr]), True),
        Check("instruction sets", features),
        tile_check(machine.flags),
    ]


def thread_check() -> Check:
    """The default number of threads, and what limits it."""
    from handglass.errors import UsageError
    from handglass.runtime.system.cpu_quota import cpu_quota
    from handglass.runtime.system.machine import VARIABLE, physical_cores, thread_count, usable_cpus

    cpus, quota = usable_cpus(), cpu_quota()
    facts = f"usable CPUs: {len(cpus)}, physical cores: {physical_cores(cpus)}, CPU quota of the "
    facts += "container: " + ("none" if quota is None else f"{quota:g}")
    try:
        return Check("threads", f"{thread_count(None)} by default ({facts})", True)
    except UsageError as error:
        return Check("threads", str(error), False, f"unset {VARIABLE}")


def tile_check(flags: frozenset[str]) -> Check:
    """Check AMX, whose registers need a permission from Linux that a container may not get."""
    from handglass.runtime.system.tiles import FLAG

    if FLAG not in flags:
        return Check("tile registers", "none: this CPU has no AMX")
    error = child(ASK_FOR_TILES)
    if error == 0:
        return Check("tile registers", "AMX, permitted by Linux", True)
    hint = "Linux 5.16 or newer is needed, or compile with --target x86-64-v4"
    return Check("tile registers", f"AMX, refused by Linux (error {error})", False, hint)


def device_checks() -> list[Check]:
    """List the device nodes of GPUs. No driver is loaded unless the user names a device."""
    from handglass.runtime.devices.kinds import CPU, device_names

    nodes = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dri/renderD*")]
    hint = f"to test one, use --device {device_names(with_host=False)}" if nodes else ""
    return [Check("devices", ", ".join([CPU, *map(str, sorted(nodes))]), hint=hint)]


def child(source: str, *arguments: str) -> int:
    """Run a small program in a child process. Returns its exit code, -N for signal N."""
    return run_isolated(source, *arguments).code
