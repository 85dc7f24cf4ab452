"""The inputs of the plug-in: our C++ sources and the headers of the apache-tvm wheels.

The wheels are located, not imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from handglass.errors import DeviceError

FOLDER = Path(__file__).parent
SUPPORT = FOLDER.parents[1] / "native" / "support"  # headers of TVM's that are not in its wheel


@dataclass(frozen=True)
class Ingredients:
    """The inputs of a build; libraries with equal inputs are interchangeable."""

    sources: str  # sha256 of our source files
    tvm: str
    tvm_ffi: str
    machine: str  # architecture and operating system, as in "x86_64-linux"

    def described(self) -> dict[str, str]:
        return asdict(self)


@cache
def sources_hash() -> str:
    digest = hashlib.sha256()
    for path in [*cpp_files(), *sorted(FOLDER.glob("*.h")), *sorted(SUPPORT.rglob("*.h"))]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def cpp_files() -> list[Path]:
    return sorted(FOLDER.glob("*.cc"))


def include_folders() -> list[Path]:
    """Include folders. Raises DeviceError if a wheel or its headers are missing."""
    return [
        SUPPORT,
        _headers("tvm", "apache-tvm", "tvm/runtime/device_api.h"),
        _headers("tvm_ffi", "apache-tvm-ffi", "tvm/ffi/function.h"),
        _headers("tvm_ffi", "apache-tvm-ffi", "dlpack/dlpack.h"),
    ]


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _headers(module: str, package: str, header: str) -> Path:
    spec = find_spec(module)  # does not import a top-level package
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for include in (Path(folder, "include"), Path(folder, "3rdparty", "dlpack", "include")):
            if (include / header).exists():
                return include
    raise DeviceError(
        f"the Vulkan library cannot be built: {header} of {package} is missing; "
        f"pip install {package}, or use a prebuilt library"
    )
