"""The native program under test: built by `make native`, run natively or under qemu.

Building takes minutes, so tests use the program in build/native and are skipped without it.
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
"""For ARM, the instruction floor of the preset that the test bundles are compiled for."""
TIMEOUT_S = 300


@dataclass(frozen=True)
class NativeProgram:
    """A built program and its emulator, if it needs one."""

    machine: str
    path: Path
    emulator: str = ""

    def command(self, *arguments: object, cpu: str = "") -> list[str]:
        start = [self.emulator, "-cpu", cpu or EMULATED_CPU[self.machine]] if self.emulator else []
        return [*start, str(self.path), *map(str, arguments)]

    def run(
        self, *arguments: object, cpu: str = "", stdin: str = "", threads: str = "2"
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TVM_NUM_THREADS": threads}
        return subprocess.run(
            self.command(*arguments, cpu=cpu),
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )

    def fails(self, code: int, text: str, *arguments: object, **options: str) -> None:
        """Assert that the program exits with `code` and an error message that contains `text`."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert text in done.stderr and done.stderr.startswith("error: "), done.stderr


@cache
def find_program(machine: str) -> NativeProgram:
    """The program for a machine. Skips the test if it is missing, outdated or cannot be run."""
    path = BUILT / machine / PROGRAM
    if not path.is_file():
        pytest.skip("the native program, which compiles for minutes: make test-native")
    newest = max(file.stat().st_mtime for file in OURS.rglob("*.[ch]*"))
    if path.stat().st_mtime < newest:
        pytest.skip(f"the native program for {machine} is older than its sources: run make native")
    if platform.machine() == machine:
        return NativeProgram(machine, path)
    emulator = shutil.which(EMULATORS[machine])
    if emulator is None:
        pytest.skip(f"{EMULATORS[machine]} is not installed")
    return NativeProgram(machine, path, emulator)
