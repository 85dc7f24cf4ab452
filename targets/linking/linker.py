"""Who links a library: the machine's own C compiler, a cross compiler of the target, or zig.

GNU cross compilers are called TRIPLE-gcc. `ziglang` from pip is the one that needs no root.
A target whose C library is not to be had on the host (Android's) is linked against empty libraries
of the right names: code for kernels needs only a few functions that the loader finds by itself, but
Android's loader looks only in libraries that are named.
"""

from __future__ import annotations

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

GLIBC = "2.28"
"""What zig links against: of 2018, in every distribution that still gets updates."""


@dataclass(frozen=True)
class Linker:
    """A command that takes object files and -o, and the libraries that it must not look for."""

    command: tuple[str, ...]
    stubs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    output_format = "so"  # read by TVM's export_library

    def __call__(
        self, output: str, objects: Sequence[str], options: Sequence[str] | None = None
    ) -> None:
        """Link `objects` to the shared library `output`; a DeviceError quotes the compiler."""
        with TemporaryDirectory(prefix="handglass-link-") as folder:
            stubs = [self._stub(name, Path(folder)) for name in self.stubs]
            bare = ("-nostdlib", "-Wl,--no-as-needed") if stubs else ()
            libraries = [*stubs] if stubs else ["-lm"]
            self._run(*self.flags, *bare, *objects, *libraries, *(options or ()), "-o", output)

    def _stub(self, name: str, folder: Path) -> str:
        """An empty lib`name`.so: enough for the linker to write the name down."""
        source, library = folder / "empty.c", folder / f"lib{name}.so"
        source.write_text("")
        self._run("-nostdlib", f"-Wl,-soname,lib{name}.so", str(source), "-o", str(library))
        return str(library)

    def _run(self, *arguments: str) -> None:
        command = [*self.command, "-shared", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise DeviceError(f"{' '.join(self.command)} could not link:\n{done.stderr.strip()}")


def find_linker(target: Target) -> Linker:
    """The first linker for `target` that is installed, or a DeviceError that names what to get."""
    here = architecture(platform.machine())
    crossing = target.architecture != here or bool(target.stub_libraries)
    names = [f"{target.gnu_triple}-{name}" for name in ("g++", "gcc")] if crossing else []
    if target.architecture == here:
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
    return Linker(command, target.stub_libraries, target.link_flags)


def _nothing_found(target: Target, names: Sequence[str], crossing: bool) -> str:
    package = "gcc-" + target.gnu_triple.replace("_", "-") if crossing else "gcc"
    looked = ", ".join([*names, *(["ziglang"] if crossing else [])])
    pip = "'pip install ziglang' or " if crossing else ""
    return (
        f"no C compiler to link the library for '{target.name}' ({target.triple}) with: looked for "
        f"{looked}; install one, for instance with {pip}'apt-get install {package}'"
    )
