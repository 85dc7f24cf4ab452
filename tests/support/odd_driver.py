"""Runs handglass on a misbehaving driver: odd_driver.cc wraps the real Vulkan loader."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path

from handglass.runtime.devices.plugin.build import RECORD, find_compiler
from handglass.runtime.devices.vulkan import VULKAN

TESTS = Path(__file__).parent
SOURCE = TESTS / "odd_driver.cc"
NAME = "libvulkan.so.1"
COMMAND = ("-m", "handglass.cli.main")


def build_driver(folder: Path) -> Path:
    """Build the driver into `folder`, which is then used as LD_LIBRARY_PATH."""
    flags = ("-std=c++17", "-shared", "-fPIC", f"-Wl,-soname,{NAME}")
    command = [*find_compiler(VULKAN.recipe), *flags, str(SOURCE), "-ldl", "-o", str(folder / NAME)]
    subprocess.run(command, check=True, timeout=300)
    return folder


def real_loader() -> str:
    """The path of the real loader, from the memory map of this process."""
    CDLL(NAME)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "/libvulkan.so" in line)


@dataclass(frozen=True)
class Machine:
    """Runs processes with a separate cache, which has no entries about drivers yet."""

    drivers: Path
    cache: Path

    def run(
        self, odd: str, *arguments: object, start: Sequence[str] = COMMAND, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a driver with this fault, or on the real one for "".

        Raises subprocess.TimeoutExpired if the command does not end.
        """
        if odd:
            more = {"ODD_DRIVER": odd, "ODD_DRIVER_REAL": real_loader()}
            environment = {**environment, **more, "LD_LIBRARY_PATH": str(self.drivers)}
        return subprocess.run(
            [sys.executable, *start, *map(str, arguments)],
            env={**os.environ, "XDG_CACHE_HOME": str(self.cache), **environment},
            cwd=TESTS.parents[1],
            capture_output=True,
            text=True,
            timeout=300,
        )


def new_machine(drivers: Path, cache: Path) -> Machine:
    """Share only the Vulkan library with the other tests, since it takes a minute to build."""
    mine = cache / "handglass" / "vulkan"
    mine.mkdir(parents=True)
    for built in Path(os.environ["XDG_CACHE_HOME"], "handglass", "vulkan").glob(f"*/{RECORD}"):
        (mine / built.parent.name).symlink_to(built.parent.resolve())
    return Machine(drivers, cache)
