"""Queries a device's properties before anything is sent, and checks that the bundle fits."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from shlex import quote

from handglass.errors import DeviceError
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.bundle.requirements import check_target
from handglass.runtime.system.machine import cpu_flags

from .transport import Transport, run
from .wheels import GLIBC, PYTHONS

_NAMES = ("python3", *(f"python{version}" for version in reversed(PYTHONS)))
_ABOUT_PYTHON = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
print("python", json.dumps({
    "command": sys.argv[1],
    "version": "%d.%d" % sys.version_info[:2],
    "libc": " ".join(platform.libc_ver()),
    "handglass": installed("handglass"),
    "tvm_ffi": installed("apache-tvm-ffi"),
    "tvm": installed("apache-tvm"),
}))
"""


@dataclass(frozen=True)
class Python:
    """A Python on the device; the version of a package is empty if it is not installed."""

    command: str
    version: str
    libc: str
    handglass: str
    tvm_ffi: str
    tvm: str

    @property
    def runs_wheels(self) -> bool:
        found = re.fullmatch(r"glibc (\d+)\.(\d+).*", self.libc)
        return found is not None and (int(found[1]), int(found[2])) >= GLIBC


@dataclass(frozen=True)
class Device:
    """Properties of a device; `free` and `memory` in bytes, `pythons` in order of preference."""

    architecture: str
    flags: frozenset[str]
    free: int
    memory: int | None
    pythons: tuple[Python, ...]


def ask_device(transport: Transport) -> Device:
    script = f"""
        mkdir -p {quote(transport.folder)} && cd {quote(transport.folder)} || exit 1
        echo "architecture $(uname -m)"
        echo "free $(df -Pk . | tail -n 1)"
        grep MemTotal /proc/meminfo
        for p in {" ".join(_NAMES)}; do
            if command -v $p >/dev/null 2>&1; then $p -c {quote(_ABOUT_PYTHON)} $p 2>/dev/null; fi
        done
        cat /proc/cpuinfo
    """
    text = run(transport, script, "examining the device")
    try:
        return parse(text)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DeviceError(
            f"{transport.where}: not recognized as Linux, it reported {text[:300]!r}"
        ) from error


def parse(text: str) -> Device:
    """Parse the output of the script in `ask_device`.

    Raises KeyError, IndexError, ValueError or TypeError for malformed output.
    """
    lines = [line.split(None, 1) for line in text.splitlines() if " " in line]
    facts = {key: rest for key, rest in reversed(lines) if key != "python"}
    memory = re.match(r"(\d+) kB", facts.get("MemTotal:", ""))
    return Device(
        architecture=facts["architecture"].strip(),
        flags=cpu_flags(text),
        free=free_bytes(facts["free"]),
        memory=int(memory[1]) * 1024 if memory else None,
        pythons=tuple(Python(**json.loads(rest)) for key, rest in lines if key == "python"),
    )


def free_bytes(line: str) -> int:
    """Available bytes in a line of `df -Pk`: file system, size, used, available in KiB."""
    return int(line.split()[3]) * 1024


def check_fits(where: str, device: Device, manifest: Manifest) -> None:
    """Raise DeviceError unless the device has the architecture, instruction sets and memory."""
    try:
        check_target(manifest.target, device.architecture, device.flags)
    except DeviceError as error:
        raise DeviceError(f"{where}: {error}") from error
    need = manifest.resident_bytes
    if device.memory is not None and need > device.memory:
        raise DeviceError(
            f"{where}: the device has {device.memory / 1e9:.2f} GB of memory, weights and cache "
            f"need {need / 1e9:.2f} GB; {manifest.lighter(device.memory)}"
        )


def choose_python(where: str, device: Device, wanted: str | None) -> Python:
    """The Python of version `wanted`, or the first one that the locked wheels support.

    Raises DeviceError if there is none.
    """
    known = [python for python in device.pythons if python.version in PYTHONS]
    fits = [python for python in known if wanted in (None, python.version)]
    if not fits:
        found = ", ".join(python.version for python in device.pythons) or "none"
        raise DeviceError(
            f"{where}: no Python {wanted or ' or '.join(PYTHONS)} (found: {found}); "
            "run 'apt-get install python3', or on a phone use the native runner (--native)"
        )
    for python in fits:
        if python.runs_wheels:
            return python
    raise DeviceError(
        f"{where}: its C library is {fits[0].libc or 'not glibc'}, the runtime needs glibc "
        f"{GLIBC[0]}.{GLIBC[1]} or newer; use the native runner (--native)"
    )
