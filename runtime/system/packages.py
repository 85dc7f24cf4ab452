"""Installed packages: located without importing them, or hidden from others."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handglass.errors import DeviceError

HEADERS = (
    ("apache-tvm", "tvm/runtime/device_api.h"),
    ("apache-tvm-ffi", "tvm/ffi/function.h"),
    ("apache-tvm-ffi", "dlpack/dlpack.h"),
)
"""(package, header): one header of each include folder that C++ against TVM's runtime needs."""


def installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_folders(package: str) -> list[Path]:
    """The folders of apache-tvm or apache-tvm-ffi; empty if it is not installed."""
    module = package.removeprefix("apache-").replace("-", "_")
    spec = importlib.util.find_spec(module)  # does not import a top-level package
    found = spec.submodule_search_locations if spec else None
    return [Path(folder) for folder in found or ()]


@contextmanager
def without_torch() -> Iterator[None]:
    """TVM's packages, imported in this block, do not import an installed torch (2 s and 190 MB).

    A None in `sys.modules` makes a module unimportable in Python; it is removed at the end, and a
    torch that is already loaded is kept.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


def header_folders(product: str) -> list[Path]:
    """The include folders of TVM, tvm-ffi and DLPack.

    Raises DeviceError, naming the `product` that needs them, if a header is missing.
    """
    return [_header_folder(product, package, header) for package, header in HEADERS]


def _header_folder(product: str, package: str, header: str) -> Path:
    for folder in _include_folders(package):
        if (folder / header).exists():
            return folder
    raise DeviceError(
        f"{product} cannot be built: {header} of {package} is missing; "
        f"pip install {package}, or use a prebuilt one"
    )


def _include_folders(package: str) -> Iterator[Path]:
    for folder in package_folders(package):
        yield folder / "include"
        yield folder / "3rdparty" / "dlpack" / "include"
