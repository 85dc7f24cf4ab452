"""A module of handglass, run by a shell with redirected, closed or full standard streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FULL = "/dev/full"
full = pytest.mark.skipif(not Path(FULL).exists(), reason="needs /dev/full")


def shell(
    redirections: str, module: str, *arguments: str | bytes, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """`python -m MODULE ARGUMENTS REDIRECTIONS`; standard input is empty unless redirected."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
