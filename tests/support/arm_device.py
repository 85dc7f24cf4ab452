"""An emulated ARM board: the arm64 tree, and a folder written by `handglass deploy`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from arm_tree import BUILD, PYTHON, Tree

from handglass.targets.deploy.deploy import Deployment, deploy
from handglass.targets.deploy.wheels import fetch, locked_wheels

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo-checkpoint"
PICTURES = sorted((ROOT / "examples" / "pictures").glob("*.png"))


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Board:
    """A folder that a bundle was deployed to, and a CPU to run it on."""

    folder: Path
    tree: Tree
    cpu: str
    options: tuple[str, ...] = ()
    """Options of the emulator."""

    def run(self, script: str, *arguments: object) -> Ran:
        """Run `ask` or `handglass` of the folder, as a user would on the board."""
        command = [str(self.folder / script), *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, timeout=600
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def environment(self) -> dict[str, str]:
        python = " ".join(self.tree.python(self.cpu, *self.options))
        given = {"HANDGLASS_PYTHON": python, "TVM_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
        return {**os.environ, **given, "XDG_CACHE_HOME": str(self.folder / "cache")}


def bring(bundle: Path, folder: Path, images: list[Path]) -> Deployment:
    """Deploy to a folder for another architecture; questions can only be asked on the board."""
    machine, wheels = "aarch64", BUILD / "wheels"
    fetch(locked_wheels(machine, PYTHON), machine, PYTHON, wheels, offline=None)
    question = "What is this picture?"
    return deploy(
        bundle, str(folder), prompt=question, images=images, python=PYTHON, offline=wheels
    )
