"""Checks the argument of verbs that take a bundle: a checkpoint must be compiled first."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from handglass.errors import InputError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WEIGHTS = (".safetensors", ".bin", ".gguf")


def bundle_folder(path: Path | None) -> Path | None:
    """Return the path, or None if none is given.

    Raises InputError for a checkpoint, one of its files, or a name on a hub.
    """
    if path is None:
        return None
    if (path / "config.json").is_file() and not os.path.lexists(path / "manifest.json"):
        raise InputError(
            f"{path}: is a checkpoint, not a bundle; compile it first: {command(path)}"
        )
    if path.suffix in _WEIGHTS and path.is_file():
        raise InputError(
            f"{path}: is a file of weights, not a bundle; compile its folder first: "
            f"{command(path.parent)}"
        )
    if _HUB_NAME.fullmatch(str(path)) and not os.path.lexists(path):
        download = shlex.join(["hf", "download", str(path), "--local-dir", path.name])
        raise InputError(
            f"{path}: no such folder; if a model on a hub is meant, download it and compile it "
            f"first: {download} && {command(Path(path.name))}"
        )
    return path


def command(checkpoint: Path) -> str:
    """A command line that compiles a checkpoint."""
    name = checkpoint.absolute().name or "model"
    words = ["handglass", "compile", "-m", str(checkpoint), "-o", f"{name}-bundle"]
    return shlex.join([*words, "--target", "host"])
