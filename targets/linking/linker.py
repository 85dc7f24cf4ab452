"""Finds the linker for a target: the system's C compiler, a cross compiler, or zig.

GNU cross compilers are named TRIPLE-gcc. `ziglang` from pip installs without root permissions. A
target whose C library is not available on the host (Android) is linked against empty stub libraries
with the right names: kernels need only a few functions, which the loader resolves, but Android's
loader searches only the libraries that are listed as dependencies.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from handglass.errors import DeviceError
from handglass.runtime.system.machine import architecture

from ..target import Target

POOL = tuple(
    str(Path(__file__).parents[2] / "runtime" / "threads" / name)
    for name in ("pool.c", "library.c")
)
"""The thread pool that every library brings along: C without includes, so any compiler takes it."""
_COMPILE_POOL = ("-O2", "-fPIC", "-fvisibility=hidden", "-x", "c", *POOL, "-x", "none")
GLIBC = "2.28"
"""The glibc version that zig links against: of 2018, available in all supported distributions."""


@dataclass(frozen=True)
class Linker:
    """A linker command, the libraries to replace by stubs, and extra flags."""

    command: tuple[str, ...]
    stubs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    output_format = "so"  # read by TVM's export_library

    def __call__(
        self, output: str, objects: Sequence[str], options: Sequence[str] | None = None
    ) -> None:
        """Link `objects` and the thread pool to the shared library `output`.

        Raises DeviceError with the compiler's output if it fails.
        """
        with TemporaryDirectory(prefix=".link-", dir=Path(output).parent) as folder:
            stubs = [self._stub(name, Path(folder)) for name in self.stubs]
            bare = ("-nostdlib", "-Wl,--no-as-needed") if stubs else ()
            libraries = [*stubs] if stubs else ["-lm"]
            inputs = *_COMPILE_POOL, *objects, *libraries
            arguments = *self.flags, *bare, *inputs, *(options or ()), "-o", output
            self._run(*arguments, temporary=folder)

    def _stub(self, name: str, folder: Path) -> str:
        """Build an empty lib`name`.so, so that the linker records it as a dependency."""
        source, library = folder / "empty.c", folder / f"lib{name}.so"
        source.write_text("")
        soname = f"-Wl,-soname,lib{name}.so"
        self._run("-nostdlib", soname, str(source), "-o", str(library), temporary=str(folder))
        return str(library)

    def _run(self, *arguments: str, temporary: str) -> None:
        command = [*self.command, "-shared", *arguments]
        environment = {**os.environ, "TMPDIR": temporary, "LC_ALL": "C"}
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment
        )
        if done.returncode:
            full = os.strerror(errno.ENOSPC)
            if full in done.stderr:
                raise DeviceError(f"{Path(temporary).parent}: {full}; free some disk space")
            raise DeviceError(f"{' '.join(self.command)} failed to link:\n{done.stderr.strip()}")


def find_linker(target: Target) -> Linker:
    """The first installed linker for `target`. Raises DeviceError with what to install."""
    host = architecture(platform.machine())
    crossing = target.architecture != host or bool(target.stub_libraries)
    names = [f"{target.gnu_triple}-{name}" for name in ("g++", "gcc")] if crossing else []
    if target.architecture == host:
        names += target.linkers
    for name in names:
        if found := shutil.which(name):
            return _linker(target, found)
    if crossing and find_spec("ziglang"):
        return _linker(target, *zig(target))
    raise DeviceError(_nothing_found(target, names, crossing))


def zig(target: Target) -> tuple[str, ...]:
    """The command of `pip install ziglang`."""
    kind = "none" if target.stub_libraries else f"gnu.{GLIBC}"
    return sys.executable, "-m", "ziglang", "cc", "-target", f"{target.architecture}-linux-{kind}"


def _linker(target: Target, *command: str) -> Linker:
    # Outlined atomics are functions of libgcc, which a stub target does not have.
    inline = ("-mno-outline-atomics",) if target.architecture == "aarch64" else ()
    return Linker(command, target.stub_libraries, (*target.link_flags, *inline))


def _nothing_found(target: Target, names: Sequence[str], crossing: bool) -> str:
    package = "gcc-" + target.gnu_triple.replace("_", "-") if crossing else "gcc"
    looked = ", ".join([*names, *(["ziglang"] if crossing else [])])
    pip = "'pip install ziglang' or " if crossing else ""
    return (
        f"no C compiler to link the library for '{target.name}' ({target.triple}): looked for "
        f"{looked}; install one, for example with {pip}'apt-get install {package}'"
    )
