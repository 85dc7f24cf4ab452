"""The scripts for users on the device.

`ask` queries the deployed bundle; `handglass` is the usual command line.
"""

from __future__ import annotations

from collections.abc import Sequence

BUNDLE = "bundle"
NATIVE = "native"
PACKAGES = "packages"
RUNNER = "handglass-native"

HERE = 'here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit 1'
# HANDGLASS_PYTHON: another interpreter of the same version, such as that of a virtual environment
PYTHON_SCRIPT = """#!/bin/sh
# Written by 'handglass deploy'. {about}
{here}
PYTHONPATH="{path}" exec ${{HANDGLASS_PYTHON:-{python}}} -m handglass.cli.main {arguments}
"""
ASK = "Asks the bundle a question: ./ask -p QUESTION [--image IMAGE]"


def python_scripts(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Scripts by name. Without `packages` they start the handglass installed on the device."""
    path = ":".join(f"$here/{PACKAGES}/{name}" for name in packages) or "$PYTHONPATH"
    common = {"here": HERE, "path": path, "python": python}
    ask = PYTHON_SCRIPT.format(about=ASK, arguments=f'run -m "$here/{BUNDLE}" "$@"', **common)
    about = "Any command: ./handglass doctor"
    command = PYTHON_SCRIPT.format(about=about, arguments='"$@"', **common)
    return {"ask": ask, "handglass": command}
