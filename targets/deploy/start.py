"""The scripts that a person types on the device: `ask` asks the bundle beside it, `handglass` is
the command line as everywhere."""

from __future__ import annotations

from collections.abc import Sequence

BUNDLE = "bundle"
NATIVE = "native"
PACKAGES = "packages"
RUNNER = "handglass-native"

HERE = 'here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 1'
# HANDGLASS_PYTHON: another interpreter of the same version, as that of a virtual environment
PYTHON_SCRIPT = """#!/bin/sh
# Written by 'handglass deploy'. {about}
{here}
PYTHONPATH="{path}" exec ${{HANDGLASS_PYTHON:-{python}}} -m handglass.cli.main {arguments}
"""
ASK = "Asks the bundle: ./ask -p QUESTION [--image PICTURE]"


def python_scripts(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Name -> text. Without `packages` the device's own handglass is started."""
    path = ":".join(f"$here/{PACKAGES}/{name}" for name in packages) or "$PYTHONPATH"
    common = {"here": HERE, "path": path, "python": python}
    ask = PYTHON_SCRIPT.format(about=ASK, arguments=f'run -m "$here/{BUNDLE}" "$@"', **common)
    command = PYTHON_SCRIPT.format(about="Any verb: ./handglass doctor", arguments='"$@"', **common)
    return {"ask": ask, "handglass": command}
