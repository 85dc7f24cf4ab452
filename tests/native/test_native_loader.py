"""The loader of the native program (elf_library.h), compiled with a sanitizer, without TVM."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from native_program import EMULATED_CPU, EMULATORS, MACHINES
from small_elf import empty_tables
from thinned import only_if

from handglass.targets.linking.native_sources import OURS

SOURCES = ("elf_library", "mapping", "lost_pages")
SANITIZER = ("-fsanitize=undefined", "-fno-sanitize=vptr", "-fsanitize-undefined-trap-on-error")
"""Undefined behaviour ends the program by a signal."""
LIBRARY = """
static int twice(int x) { return 2 * x; }
int (*step)(int) = twice;  /* a relocation */
int run(int x) { return step(x) + 2; }
"""


@dataclass(frozen=True)
class Driver:
    machine: str
    compiler: tuple[str, ...]
    folder: Path

    def load(self, content: bytes, *function: str) -> tuple[int, str]:
        """Exit code and output of loader_driver for a library."""
        file = self.folder / "library.so"
        file.write_bytes(content)
        emulator = (EMULATORS[self.machine], "-cpu", EMULATED_CPU[self.machine])
        command = () if platform.machine() == self.machine else emulator
        done = subprocess.run(
            [*command, self.folder / "driver", file, *function], capture_output=True, text=True
        )
        return done.returncode, done.stdout

    def library(self, source: str) -> bytes:
        file, made = self.folder / "source.c", self.folder / "made.so"
        file.write_text(source)
        flags = ("-shared", "-nostdlib", "-fPIC", "-O1", "-x", "c")
        subprocess.run([*self.compiler, *flags, file, "-o", made], check=True)
        return made.read_bytes()


def find_compiler(machine: str) -> tuple[str, ...]:
    native = platform.machine() == machine
    gnu = shutil.which("g++" if native else f"{machine}-linux-gnu-g++")
    if gnu:
        return (gnu,)
    if find_spec("ziglang") is None:
        pytest.skip(f"no C++ compiler for {machine}")
    return (sys.executable, "-m", "ziglang", "c++", "-target", f"{machine}-linux-musl")


@pytest.fixture(scope="module", params=only_if(lambda m: m == platform.machine(), MACHINES))
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    machine = request.param
    if platform.machine() != machine and not shutil.which(EMULATORS[machine]):
        pytest.skip(f"{EMULATORS[machine]} is not installed")
    compiler, folder = find_compiler(machine), tmp_path_factory.mktemp("loader")
    sources = [Path(__file__).with_name("loader_driver.cc"), *(OURS / f"{s}.cc" for s in SOURCES)]
    flags = ("-std=c++20", "-O1", "-static", *SANITIZER, f"-I{OURS}")
    subprocess.run([*compiler, *flags, *sources, "-o", folder / "driver"], check=True)
    return Driver(machine, compiler, folder)


def test_code_is_flushed_before_it_runs(driver: Driver) -> None:
    """From the instruction cache, after its last byte was written."""
    assert driver.load(driver.library(LIBRARY), "run") == (0, "loaded\n42\n")


@pytest.mark.parametrize("table", empty_tables("x86_64"))
def test_an_empty_table_may_lie_anywhere(driver: Driver, table: str) -> None:
    """No pointer to it is computed (found by make fuzz-native)."""
    assert driver.load(empty_tables(driver.machine)[table]) == (0, "loaded\n")
