"""What a device says about itself before anything is sent, and whether the bundle fits it."""

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
    """A Python of the device; versions of packages are empty where they are not installed."""

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
    """`free` and `memory` in bytes; `pythons` in the order in which they are to be preferred."""

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
    text = run(transport, script, "looking at it")
    try:
        return parse(text)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DeviceError(
            f"{transport.where}: no Linux that we know, it says: {text[:300]!r}"
        ) from error


def parse(text: str) -> Device:
    """From what the script prints; whatever error Python has for an answer of another form."""
    lines = [line.split(None, 1) for line in text.splitlines() if " " in line]
    told = {key: rest for key, rest in reversed(lines) if key != "python"}
    memory = re.match(r"(\d+) kB", told.get("MemTotal:", ""))
    return Device(
        architecture=told["architecture"].strip(),
        flags=cpu_flags(text),
        free=free_bytes(told["free"]),
        memory=int(memory[1]) * 1024 if memory else None,
        pythons=tuple(Python(**json.loads(rest)) for key, rest in lines if key == "python"),
    )


def free_bytes(line: str) -> int:
    """Of a line of `df -Pk`: file system, size, used, available in KiB."""
    return int(line.split()[3]) * 1024


def check_fits(where: str, device: Device, manifest: Manifest) -> None:
    """Architecture, instruction sets and memory; a DeviceError names the device."""
    try:
        check_target(manifest.target, device.architecture, device.flags)
    except DeviceError as error:
        raise DeviceError(f"{where}: {error}") from error
    need = manifest.resident_bytes
    if device.memory is not None and need > device.memory:
        raise DeviceError(
            f"{where}: has {device.memory / 1e9:.2f} GB of memory, weights and cache take "
            f"{need / 1e9:.2f} GB; compile with fewer bits or a smaller --context"
        )


def choose_python(where: str, device: Device, wanted: str | None) -> Python:
    """The wanted version, or the first that a runtime can be brought to."""
    known = [python for python in device.pythons if python.version in PYTHONS]
    fits = [python for python in known if wanted in (None, python.version)]
    if not fits:
        found = ", ".join(python.version for python in device.pythons) or "none"
        raise DeviceError(
            f"{where}: no Python {wanted or ' or '.join(PYTHONS)} (found: {found}): "
            "apt-get install python3; a phone takes the native runner (--native)"
        )
    for python in fits:
        if python.runs_wheels:
            return python
    raise DeviceError(
        f"{where}: its C library is {fits[0].libc or 'not glibc'}, the runtime needs glibc "
        f"{GLIBC[0]}.{GLIBC[1]} or newer; use the native runner (--native)"
    )
