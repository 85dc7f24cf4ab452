"""The wheel of this checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ["pyproject.toml", "README.md", "LICENSE", "handglass"]
SHIPPED += ["compiler", "schedules", "targets", "runtime"]


def copy_sources(tree: Path) -> None:
    """What a wheel is built from, because setuptools leaves (and reuses) a build folder."""
    for name in SHIPPED:
        source, ignore = ROOT / name, shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, tree / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, tree / name)


def build_wheel(tree: Path) -> Path:
    """Build the wheel of the sources in `tree`."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tree / "dist", tree]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return next((tree / "dist").glob("handglass-*.whl"))
