"""Compiles the Vulkan plug-in, for this machine or for another.

The result is one shared object that links neither TVM, tvm-ffi nor libvulkan: their symbols are
resolved when it is loaded, and libvulkan is opened when a device is first used. So a cross build
needs only headers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from handglass.errors import DeviceError

from ...system.machine import usable_cpus
from ...system.packages import installed_version
from ...system.regular_file import open_regular, read_regular
from ..kinds import KINDS
from .sources import Ingredients, cpp_files, include_folders, sources_hash

LIBRARY = KINDS["vulkan"].library
RECORD = "built.json"
FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread"),
    "-fno-sanitize=all",  # zig enables sanitizers, which need a runtime
)


def find_compiler() -> list[str]:
    """$CXX, or else the first C++ compiler on PATH. Raises DeviceError if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0]):
            return command
    what = f"$CXX = {named[0]} was not found" if named else "no C++ compiler is on PATH"
    raise DeviceError(
        f"the Vulkan library must be built once, but {what}; install a compiler "
        "(Debian, Ubuntu: apt install g++ libvulkan-dev; Fedora: dnf: gcc-c++ vulkan-headers)"
    )


def build_plugin(compiler: Sequence[str], output: Path) -> Path:
    """Compile the plug-in into the folder `output`, with a record of its inputs (RECORD).

    `compiler` is a command with its first arguments and determines the target machine:
    `["aarch64-linux-gnu-g++"]`,
    `[sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]`.
    Returns the path of the library. Raises DeviceError if a header is missing or the compiler
    fails.
    """
    includes = [f"-isystem{folder}" for folder in include_folders()]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".build-") as scratch:
        compile_one = [*compiler, *FLAGS, *includes]
        with ThreadPoolExecutor(max_workers=len(usable_cpus())) as pool:
            objects = list(
                pool.map(lambda file: _compile(compile_one, file, Path(scratch)), cpp_files())
            )
        library = Path(scratch, LIBRARY)
        _run([*compiler, "-shared", "-pthread", *objects, "-o", str(library), "-ldl"])
        record = _record(compiler, library)
        Path(scratch, RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for name in (LIBRARY, RECORD):  # the record last: it marks the library as complete
            Path(scratch, name).replace(output / name)
    return output / LIBRARY


def ingredients(machine: str) -> Ingredients:
    """The inputs of a library for `machine` that is built by this installation."""
    return Ingredients(
        sources=sources_hash(),
        tvm=installed_version("apache-tvm") or "",
        tvm_ffi=installed_version("apache-tvm-ffi") or "",
        machine=machine,
    )


def machine_of(library: Path) -> str:
    """The architecture in the header of an ELF file, as "x86_64-linux"."""
    with open_regular(library) as file:
        header = file.read(20)
    names = {62: "x86_64", 183: "aarch64", 243: "riscv64"}
    code = int.from_bytes(header[18:20], "little")
    if header[:4] != b"\x7fELF" or code not in names:
        raise DeviceError(f"{library}: not a shared library for x86_64, aarch64 or riscv64")
    return f"{names[code]}-linux"


def _record(compiler: Sequence[str], library: Path) -> dict[str, str]:
    content = read_regular(library)
    return {
        **ingredients(machine_of(library)).described(),
        "compiler": compiler_version(compiler),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def compiler_version(compiler: Sequence[str]) -> str:
    return (_run([*compiler, "--version"]).splitlines() or [""])[0]


def _compile(command: Sequence[str], source: Path, folder: Path) -> str:
    output = folder / f"{source.stem}.o"
    _run([*command, "-c", str(source), "-o", str(output)])
    return str(output)


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise DeviceError(_explain(command, done.stderr))
    return done.stdout


def _explain(command: Sequence[str], errors: str) -> str:
    gcc = "vulkan/vulkan.h" in errors and "o such file" in errors
    missing = gcc or "'vulkan/vulkan.h'" in errors
    if missing:
        return (
            "the Vulkan library cannot be built: the header vulkan/vulkan.h is missing; install it "
            "(Debian, Ubuntu: apt install libvulkan-dev; Fedora: dnf install vulkan-headers)"
        )
    lines = [line for line in errors.splitlines() if "error" in line] or errors.splitlines()
    return f"the Vulkan library cannot be built: {command[0]}: {(lines or ['no message'])[0]}"
