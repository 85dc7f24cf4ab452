"""A bundle that answers no questions, deployed to a folder of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handglass.targets.deploy import runtime

USE = "to use it on the device: "


@dataclass(frozen=True)
class Deployed:
    """What `handglass deploy` printed at the end."""

    trial: str
    command: str

    def run(self, more: str = "") -> str:
        """The output of the command, to which `more` is added."""
        done = subprocess.run(
            f"{self.command} {more}", shell=True, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout


def deployed(
    handglass: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    bundle: Path,
    to: Path,
    *options: object,
) -> Deployed:
    """`to` is a folder; the Python there is this one, which has all that a bundle needs."""
    monkeypatch.setenv("HANDGLASS_PYTHON", sys.executable)
    monkeypatch.setattr(runtime, "has_runtime", lambda python, manifest: True)
    result = handglass("deploy", bundle, "--to", to, *options)
    assert result.code == 0, result.err
    *_, trial, command = result.err.splitlines()
    assert command.startswith(USE), result.err
    return Deployed(trial, command.removeprefix(USE))
