"""What a device needs in addition to the bundle: Python packages or the native runner."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import handglass
from handglass.errors import DeviceError
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.bundle.reader import RUNTIME_LIBRARY
from handglass.runtime.system.machine import architecture
from handglass.runtime.system.user_cache import cache_folder

from .device import Device, Python, choose_python
from .packages import Package, from_wheel, ourselves
from .push import Item
from .start import PACKAGES, python_scripts
from .transport import Transport, run
from .wheels import fetch, locked_wheels

DEFAULT_PYTHON = "3.11"
"""Version for a device that cannot be queried: that of Debian 12 and its Raspberry Pi OS."""


@dataclass(frozen=True)
class Runtime:
    """Scripts by name, packages to unpack, and files of the native runner to copy unchanged."""

    scripts: dict[str, str] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    files: tuple[Item, ...] = ()
    python: str = ""
    """Python version that it is for; empty for the native runner."""


def python_runtime(
    where: str,
    manifest: Manifest,
    device: Device | None,
    wanted: str | None,
    offline: Path | None,
) -> Runtime:
    """The packages for the device's Python; none if it has all of them in the right versions.

    Raises DeviceError if the Python runtime does not run there, or its wheels are unavailable.
    """
    if "android" in manifest.target.triple:
        raise DeviceError(
            f"{where}: the bundle is for Android (target {manifest.target.name}), where the "
            "Python runtime does not run; use the native runner: --native FOLDER"
        )
    python = choose_python(where, device, wanted) if device else None
    if python and has_runtime(python, manifest):
        return Runtime(python_scripts(python.command, ()), python=python.version)
    version = python.version if python else wanted or DEFAULT_PYTHON
    machine = architecture(manifest.target.triple.split("-")[0])
    wheels = locked_wheels(machine, version)
    cache = cache_folder("wheels")
    files = fetch(wheels, machine, version, cache, offline)
    packages = [from_wheel(wheel, file) for wheel, file in files.items()]
    packages.append(ourselves())
    command = python.command if python else f"python{version}"
    scripts = python_scripts(command, [package.folder for package in packages])
    return Runtime(scripts, tuple(packages), python=version)


def has_runtime(python: Python, manifest: Manifest) -> bool:
    wanted, library = manifest.versions, RUNTIME_LIBRARY in manifest.files
    return (
        python.handglass == handglass.__version__
        and python.tvm_ffi == wanted.get("tvm_ffi")
        and (library or python.tvm == wanted.get("tvm"))
    )


def missing_packages(transport: Transport, packages: Sequence[Package]) -> list[Package]:
    """The packages that are not unpacked on the device yet."""
    if not packages:
        return []
    at = quote(f"{transport.folder}/{PACKAGES}")
    listed = run(transport, f"mkdir -p {at} && ls {at}", "listing packages").split()
    return [package for package in packages if package.folder not in listed]


def unpack(transport: Transport, package: Package, archive: str) -> None:
    """Unpack under a temporary name, so that the final folder is complete; delete the archive."""
    at, final = quote(f"{transport.folder}/{PACKAGES}"), quote(package.folder)
    script = f"""
        cd {at} || exit 1
        rm -rf .unpacking && mkdir .unpacking || exit 1
        tar -xzf {quote(Path(archive).name)} -C .unpacking || exit 1
        mv .unpacking {final} && rm -f {quote(Path(archive).name)}
    """
    run(transport, script, f"unpacking {package.name}")


def is_this_machine(manifest: Manifest) -> bool:
    """Whether the bundle is for the architecture of this machine."""
    return architecture(manifest.target.triple.split("-")[0]) == architecture(platform.machine())
