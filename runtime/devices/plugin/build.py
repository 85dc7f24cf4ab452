"""Compiles a plug-in, for this machine or for another.

The result is one shared object that links neither TVM, tvm-ffi nor a driver: their symbols are
resolved when it is loaded, and the driver is opened when a device is first used. So a cross build
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
from .recipe import Ingredients, Recipe

RECORD = "built.json"
UNITS = 2
"""Each contains the same sources everywhere, since two may use one name for different things."""
FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread"),
    "-fno-sanitize=all",  # zig enables sanitizers, which need a runtime
)


def find_compiler(recipe: Recipe) -> list[str]:
    """$CXX, or else the first C++ compiler on PATH. Raises DeviceError if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0]):
            return command
    what = f"$CXX = {named[0]} was not found" if named else "no C++ compiler is on PATH"
    raise DeviceError(
        f"{recipe.product} must be built once, but {what}; install a compiler ({recipe.packages})"
    )


def build_plugin(recipe: Recipe, compiler: Sequence[str], output: Path) -> Path:
    """Compile the plug-in into the folder `output`, with a record of its inputs (RECORD).

    `compiler` is a command with its first arguments and determines the target machine:
    `["aarch64-linux-gnu-g++"]`,
    `[sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]`.
    Returns the path of the library. Raises DeviceError if a header is missing or the compiler
    fails.
    """
    includes = [f"-isystem{folder}" for folder in recipe.include_folders()]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".build-") as scratch:
        objects = _objects(recipe, [*compiler, *FLAGS, *includes], Path(scratch))
        library = Path(scratch, recipe.library)
        link = [*compiler, "-shared", "-pthread", *objects, "-o", str(library), "-ldl"]
        _run(recipe, link)
        record = _record(recipe, compiler, library)
        Path(scratch, RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for name in (recipe.library, RECORD):  # the record last: it marks the library as complete
            Path(scratch, name).replace(output / name)
    return output / recipe.library


def ingredients(recipe: Recipe, machine: str) -> Ingredients:
    """The inputs of a library for `machine` that is built by this installation."""
    return Ingredients(
        sources=recipe.sources_hash(),
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


def _record(recipe: Recipe, compiler: Sequence[str], library: Path) -> dict[str, str]:
    content = read_regular(library)
    return {
        **ingredients(recipe, machine_of(library)).described(),
        "compiler": compiler_version(recipe, compiler),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def compiler_version(recipe: Recipe, compiler: Sequence[str]) -> str:
    return (_run(recipe, [*compiler, "--version"]).splitlines() or [""])[0]


def _objects(recipe: Recipe, command: Sequence[str], folder: Path) -> list[str]:
    """Compile the sources as few units: most of the time goes to headers, once per unit."""

    def compile_one(number: int) -> str:
        unit, output = folder / f"{number}.cc", folder / f"{number}.o"
        sources = recipe.cpp_files()[number::UNITS]
        unit.write_text("".join(f'#include "{path}"\n' for path in sources), encoding="utf-8")
        _run(recipe, [*command, "-c", str(unit), "-o", str(output)])
        return str(output)

    with ThreadPoolExecutor(max_workers=len(usable_cpus())) as pool:
        return list(pool.map(compile_one, range(UNITS)))


def _run(recipe: Recipe, command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise DeviceError(_explain(recipe, command, done.stderr))
    return done.stdout


def _explain(recipe: Recipe, command: Sequence[str], errors: str) -> str:
    if recipe.header and _is_missing(recipe.header, errors):
        return (
            f"{recipe.product} cannot be built: the header {recipe.header} is missing; install it "
            f"({recipe.header_packages})"
        )
    lines = [line for line in errors.splitlines() if "error" in line] or errors.splitlines()
    return f"{recipe.product} cannot be built: {command[0]}: {(lines or ['no message'])[0]}"


def _is_missing(header: str, errors: str) -> bool:
    """Whether GCC or clang says that a header was not found."""
    return (header in errors and "o such file" in errors) or f"'{header}'" in errors
