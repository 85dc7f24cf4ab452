"""Builds `handglass-native`, one static program for devices without Python, with zig.

    python -m handglass.targets.linking.native aarch64 OUTPUT

Builds are incremental: each object file is cached in the user's cache folder together with the
hashes of its sources, so an interrupted build resumes and only changed files are recompiled. The
first build for an architecture takes a minute longer, in which zig builds its C library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from handglass.errors import DeviceError, UsageError
from handglass.runtime.system.exits import run_module
from handglass.runtime.system.machine import architecture, usable_cpus
from handglass.runtime.system.packages import installed_version
from handglass.runtime.system.user_cache import (
    cache_folder,
    close_to_others,
    is_private,
    open_private,
)

from .native_sources import OURS, VERSIONS, Source, native_sources, package_folder

PROGRAM = "handglass-native"
TRIPLES = {"aarch64": "aarch64-linux-musl", "x86_64": "x86_64-linux-musl"}
LINK_FLAGS = ("-static", "-s", "-Wl,--gc-sections", "-Wl,-z,relro,-z,now")

Progress = Callable[[str, int, int], object]


def build_native(
    machine: str,
    output: Path,
    cache: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Path:
    """Build the program for `machine` (aarch64, x86_64 or a triple of these) and copy its licences.

    Returns the folder `output`. Raises DeviceError if ziglang or the wheels are missing or the
    compiler fails, UsageError for an unsupported machine.
    """
    triple = find_triple(machine)
    zig = Zig.find(triple)
    sources = native_sources()
    objects = Objects(zig, (cache or cache_folder("native")) / triple)
    output.mkdir(parents=True, exist_ok=True)
    made = _compile_all(objects, sources, progress)
    _link(zig, made, output / PROGRAM)
    copy_licences(output / "licenses")
    return output


def find_triple(machine: str) -> str:
    """The zig triple of a machine. Raises UsageError if the program cannot be built for it."""
    name = architecture(machine.split("-")[0])
    if name not in TRIPLES:
        raise UsageError(f"machine {machine!r} is not supported; known: {', '.join(TRIPLES)}")
    return TRIPLES[name]


@dataclass(frozen=True)
class Zig:
    """The C++ compiler from `pip install ziglang`, for one target triple."""

    command: tuple[str, ...]
    version: str

    @classmethod
    def find(cls, triple: str) -> Zig:
        found = installed_version("ziglang")
        if found is None:
            raise DeviceError("ziglang is not installed; pip install 'ziglang~=0.17'")
        return cls((sys.executable, "-m", "ziglang", "c++", "-target", triple), found)

    def run(self, *arguments: str) -> None:
        """Run the compiler. Raises DeviceError with its output if it fails."""
        command = [*self.command, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise DeviceError(f"{' '.join(command)}:\n{done.stderr.strip()[-4000:]}")


class Objects:
    """Cached object files, each with a record of the hashes of all its source files."""

    def __init__(self, zig: Zig, folder: Path) -> None:
        self.zig, self.folder = zig, folder
        self._hashes: dict[str, str] = {}

    def path(self, source: Source) -> Path:
        """The object file of a source; its name depends on everything but file contents."""
        key = json.dumps(
            [self.zig.version, *self.zig.command[1:], *_portable(source.flags), VERSIONS]
        )
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.folder / f"{source.name}-{digest}.o"

    def is_current(self, source: Source) -> bool:
        made = self.path(source)
        try:
            if not all(is_private(path.stat()) for path in (self.folder, made)):
                return False  # another user could have written it
            with open_private(made.with_suffix(".json")) as file:
                record = json.load(file)
            if source.path.is_relative_to(OURS.parent) and str(source.path) not in record:
                return False  # made from another checkout of handglass
            return made.is_file() and record == {name: self._hash(name) for name in record}
        except (OSError, ValueError):
            return False

    def make(self, source: Source) -> Path:
        made = self.path(source)
        if self.is_current(source):
            return made
        self.folder.mkdir(parents=True, exist_ok=True)
        part, depends = made.with_suffix(f".{os.getpid()}.o"), made.with_suffix(f".{os.getpid()}.d")
        made.with_suffix(".json").unlink(missing_ok=True)
        started = time.time()
        try:
            self.zig.run(
                *source.flags, "-MMD", "-MF", str(depends), "-c", str(source.path), "-o", str(part)
            )
            close_to_others(self.folder, part)
            part.replace(made)
            names = _dependencies(depends)
            if all(Path(name).stat().st_mtime < started for name in names):  # unchanged meanwhile
                record = {name: self._hash(name) for name in names}
                made.with_suffix(".json").write_text(json.dumps(record), "utf-8")
                close_to_others(made.with_suffix(".json"))
        finally:
            depends.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        return made

    def _hash(self, name: str) -> str:
        if name not in self._hashes:
            self._hashes[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        return self._hashes[name]


def copy_licences(folder: Path) -> None:
    """Copy the licences of everything linked in: TVM, its FFI, and zig's C and C++ libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in _licences():
        shutil.copyfile(path, folder / name)


def _licences() -> Iterator[tuple[str, Path]]:
    for package in VERSIONS:
        package_folder(package)
        for file in distribution(package).files or ():
            if "licenses" in file.parts:
                yield f"{package}-{file.name}", Path(str(file.locate()))
    zig = Path(str(distribution("ziglang").locate_file("ziglang")))
    library = zig / "lib"
    yield "zig-LICENSE", zig / "LICENSE"
    yield "musl-COPYRIGHT", library / "libc" / "musl" / "COPYRIGHT"
    for name in ("libcxx", "libcxxabi", "libunwind"):
        yield f"{name}-LICENSE.TXT", library / name / "LICENSE.TXT"


def _compile_all(objects: Objects, sources: list[Source], progress: Progress) -> list[Path]:
    """Compile all sources. Stops at the first failure; finished objects stay cached."""
    with ThreadPoolExecutor(len(usable_cpus())) as pool:
        futures = {pool.submit(objects.make, source): source for source in sources}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress("compile", done, len(sources))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [objects.path(source) for source in sources]


def _link(zig: Zig, objects: list[Path], program: Path) -> None:
    part = program.with_suffix(f".{os.getpid()}")
    try:
        zig.run(*LINK_FLAGS, *map(str, objects), "-o", str(part))
        part.replace(program)
    finally:
        part.unlink(missing_ok=True)


def _portable(flags: tuple[str, ...]) -> list[str]:
    """Flags without installation paths; the record identifies files by their hashes."""
    return [flag for flag in flags if not flag.startswith(("-I", "-isystem"))]


def _dependencies(file: Path) -> list[str]:
    """The paths in a make rule, with escaped spaces; it does not list system headers."""
    text = file.read_text("utf-8").replace("\\\n", " ").split(":", 1)[1]
    return [word.replace("\0", " ") for word in text.replace("\\ ", "\0").split()]


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise UsageError(
            "usage: python -m handglass.targets.linking.native {aarch64|x86_64} OUTPUT"
        )

    def progress(what: str, done: int, total: int) -> None:
        print(f"{what} {done}/{total}", file=sys.stderr)

    print(build_native(arguments[0], Path(arguments[1]), progress=progress) / PROGRAM)


if __name__ == "__main__":
    sys.exit(run_module(lambda: main(sys.argv[1:])))
