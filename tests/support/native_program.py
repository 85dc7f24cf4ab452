"""The native program under test: what `make native` built, run as it is or under qemu.

Building takes minutes, so tests take what lies in build/native and skip without it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from handglass.targets.linking.native import PROGRAM
from handglass.targets.linking.native_sources import OURS

BUILT = Path(__file__).parents[2] / "build" / "native"
MACHINES = ("x86_64", "aarch64")
EMULATORS = {"x86_64": "qemu-x86_64", "aarch64": "qemu-aarch64"}
EMULATED_CPU = {"x86_64": "max", "aarch64": "cortex-a76"}
"""For ARM the floor of the preset that the bundles of the tests are compiled for."""
TIMEOUT_S = 300


@dataclass(frozen=True)
class NativeProgram:
    """How to start it, and where."""

    machine: str
    path: Path
    emulator: str = ""

    def command(self, *arguments: object, cpu: str = "") -> list[str]:
        start = [self.emulator, "-cpu", cpu or EMULATED_CPU[self.machine]] if self.emulator else []
        return [*start, str(self.path), *map(str, arguments)]

    def run(
        self, *arguments: object, cpu: str = "", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TVM_NUM_THREADS": "2"}
        return subprocess.run(
            self.command(*arguments, cpu=cpu),
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )

    def fails(self, code: int, words: str, *arguments: object, **options: str) -> None:
        """It must end with this exit code and say so."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert words in done.stderr and done.stderr.startswith("error: "), done.stderr


@cache
def find_program(machine: str) -> NativeProgram:
    """Skips the test where there is none, an old one, or nothing to run it with."""
    path = BUILT / machine / PROGRAM
    if not path.is_file():
        pytest.skip(f"no native program for {machine}: make native builds it")
    newest = max(file.stat().st_mtime for file in OURS.rglob("*.[ch]*"))
    if path.stat().st_mtime < newest:
        pytest.skip(f"the native program for {machine} is older than its sources: make native")
    if platform.machine() == machine:
        return NativeProgram(machine, path)
    emulator = shutil.which(EMULATORS[machine])
    if emulator is None:
        pytest.skip(f"{EMULATORS[machine]} is not installed")
    return NativeProgram(machine, path, emulator)
