"""A whole arm64 Debian with Python's venv and gcc, as a person has it on a board.

QEMU alone cannot start a second program, so pip and the linker would not run under it. PRoot
(apt-get install proot) starts each program of the tree through QEMU, without root and without
binfmt. The tree is cached in build/arm and rebuilt when its list of packages changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from arm_device import Ran
from arm_tree import BUILD, CONFIGURATION, MissingToolError, apt, configured, unpack
from older_kernel import hide_faccessat2

PACKAGES = ("python3-venv", "gcc", "libc6-dev")
"""apt adds what these need."""
BARE = "--no-install-recommends"
CPU = "cortex-a76"
"""Of a Raspberry Pi 5."""
BOUND = ("/dev", "/proc", "/sys", "/tmp")
"""Folders of this machine that the system sees, too."""


@dataclass(frozen=True)
class System:
    """The tree at `root`; `home` and `shown` are folders of this machine, which it has, too."""

    root: Path
    home: Path
    shown: tuple[Path, ...] = ()

    def run(self, *command: object, seconds: float = 3600) -> Ran:
        """Run a program of the system, whose own programs run in it, too."""
        done = subprocess.run(
            [*self._start(), *map(str, command)],
            env=self._environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=seconds,
            preexec_fn=hide_faccessat2,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def _start(self) -> list[str]:
        emulator = f"{needed('qemu-aarch64')} -cpu {CPU}"
        folders = [*BOUND, self.home, *self.shown]
        bound = [word for folder in folders for word in ("-b", str(folder))]
        start = [needed("proot"), "-q", emulator, "-r", str(self.root)]
        return [*start, *bound, "-w", str(self.home)]

    def _environment(self) -> dict[str, str]:
        """Nothing of this machine's but where temporary files go."""
        given = {"HOME": str(self.home), "PATH": f"{self.home}/venv/bin:/usr/bin:/bin"}
        ours = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
        return {**ours, **given, "LANG": "C.UTF-8", "TVM_NUM_THREADS": "2"}


def arm_system(home: Path, *shown: Path) -> System:
    """The system, whose tree is built on first use.

    Raises:
        MissingToolError: A tool or a package is not available.
    """
    needed("proot"), needed("qemu-aarch64")
    key = hashlib.sha256("\n".join([CONFIGURATION, *PACKAGES]).encode()).hexdigest()[:12]
    root = BUILD / f"system-{key}"
    if not root.is_dir():
        part = BUILD / f".system-{key}.part"
        shutil.rmtree(part, ignore_errors=True)
        unpack(download(BUILD / "apt-system"), part)
        part.rename(root)
    return System(root, home, shown)


def needed(program: str) -> str:
    """The path of a program of this machine. Raises MissingToolError."""
    found = shutil.which(program)
    if found is None:
        raise MissingToolError(f"no {program}: run make test-wheel-arm, which installs it")
    return found


def download(state: Path) -> list[Path]:
    """The packages and all that they need: apt takes the system for empty."""
    configuration = configured(state)
    apt(configuration, state, "update")
    apt(configuration, state, "install", "--download-only", "--yes", BARE, *PACKAGES)
    return sorted((state / "cache" / "archives").glob("*.deb"))
