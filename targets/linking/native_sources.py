"""Sources of the native program: the C++ of handglass and parts of two published wheels.

The wheels are located, not imported. Only the parts of TVM's runtime are compiled that a virtual
machine on a CPU needs: no RPC (device_server.cc has its own protocol), no GPU, no TVM KV cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import handglass
from handglass.errors import DeviceError, MismatchError
from handglass.runtime.system.packages import header_folders, installed_version, package_folders

OURS = Path(__file__).parents[2] / "runtime" / "native"
POOL = OURS.parent / "threads" / "pool.c"
VERSIONS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}
"""The headers in runtime/native/support match the sources of these versions."""

TVM_SOURCES = (
    "cpu_device_api",
    "device_api",
    "file_utils",
    "memory/memory_manager",
    "module",
    "tensor",
    "vm/builtin",
    "vm/bytecode",
    "vm/executable",
    "vm/vm",
    "workspace_pool",
)
FFI_SOURCES = (
    "backtrace",
    "container",
    "custom_allocator",
    "dtype",
    "error",
    "extra/env_c_api",
    "extra/env_context",
    "extra/json_parser",
    "extra/json_writer",
    "extra/library_module",
    "extra/module",
    "function",
    "init_once",
    "object",
    "tensor",
)
OBJECT_FLAGS = ("-O2", "-fPIC", "-ffunction-sections", "-fdata-sections")
WARNINGS = ("-Wall", "-Wextra")
FLAGS = (
    *("-std=c++20", *OBJECT_FLAGS),
    "-fno-sanitize=undefined",  # zig's default would trap undefined behaviour in upstream code
    *("-DTVM_FFI_STATIC=1", "-DTVM_FFI_EXPORTS=1", "-DTVM_RUNTIME_EXPORTS=1"),
    *("-DTVM_FFI_CMAKE_LITTLE_ENDIAN=1", "-DTVM_FFI_USE_LIBBACKTRACE=0", '-DTVM_VERSION="0.27.0"'),
)


@dataclass(frozen=True)
class Source:
    """A file to compile; `name` is unique."""

    name: str
    path: Path
    flags: tuple[str, ...]


def native_sources() -> list[Source]:
    """All sources. Raises DeviceError if a wheel is missing, MismatchError for another release."""
    tvm, ffi = package_folder("apache-tvm"), package_folder("apache-tvm-ffi")
    headers = (*header_folders("the native program"), ffi / "src" / "ffi" / "extra")
    include = tuple(f"-isystem{folder}" for folder in headers)
    # "../support/x.h" and "../../support/x.h" resolve from the first and the second of these
    support = (f"-I{OURS / 'support'}", f"-I{OURS / 'support' / 'tvm'}")
    theirs = (*FLAGS, *include, *support, "-w")
    ours = (*FLAGS, *include, *support, *_definitions())
    folders = ((tvm / "src" / "runtime", TVM_SOURCES), (ffi / "src" / "ffi", FFI_SOURCES))
    sources = [
        Source(f"{folder.parts[-3]}-{name.replace('/', '-')}", folder / f"{name}.cc", theirs)
        for folder, names in folders
        for name in names
    ]
    sources += [Source(f"ours-{p.stem}", p, (*ours, *WARNINGS)) for p in own_sources()]
    sources.append(Source("ours-pool", POOL, ("-std=c11", *OBJECT_FLAGS, *WARNINGS)))
    for source in sources:
        if not source.path.is_file():
            raise MismatchError(f"{source.path}: file is missing; reinstall its package")
    return sources


def own_sources() -> list[Path]:
    return sorted(OURS.glob("*.cc"))


def package_folder(package: str) -> Path:
    """The folder of an installed package.

    Raises DeviceError if it is not installed, MismatchError if it is another release.
    """
    wanted = VERSIONS[package]
    folders, found = package_folders(package), installed_version(package)
    if not folders or not found:
        raise DeviceError(f"{package} is not installed; pip install {package}=={wanted}")
    if found != wanted:
        raise MismatchError(
            f"{package} is {found}, the native program needs the sources of {wanted}; "
            f"pip install {package}=={wanted}"
        )
    return folders[0]


def _definitions() -> tuple[str, ...]:
    return (
        f'-DHANDGLASS_VERSION="{handglass.__version__}"',
        f'-DHANDGLASS_TVM="{VERSIONS["apache-tvm"]}"',
        f'-DHANDGLASS_TVM_FFI="{VERSIONS["apache-tvm-ffi"]}"',
    )
