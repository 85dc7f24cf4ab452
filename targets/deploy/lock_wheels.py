"""Writes wheels.lock.json: the exact wheels that a device without handglass gets.

    make lock-wheels

There is one list per architecture and Python version, with the version and sha256 of each wheel as
reported by the package index. Versions are the newest that pip selects, except those pinned below.
Nothing is installed, and no code of a wheel is executed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from .wheels import ARCHITECTURES, FORMAT, LOCK, PYTHONS, platform_flags

# Everything that the command line imports on a device, including dependencies. Later versions of
# typer require pydantic, which is as large as all of these without numpy. Dependencies are not
# resolved: tokenizers requires a package that downloads models.
REQUIREMENTS = (
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi==0.1.14.post1",
    "typing_extensions",
    "numpy",
    "pillow",
    "sentencepiece",
    "tokenizers",
    "typer==0.20.0",
    "click<8.4",
    "rich",
    "markdown-it-py",
    "mdurl",
    "pygments",
    "shellingham",
)


def main() -> None:
    wheels = {
        architecture: {python: resolve(architecture, python) for python in PYTHONS}
        for architecture in ARCHITECTURES
    }
    text = json.dumps({"format": FORMAT, "version": 1, "wheels": wheels}, indent=1)
    Path(LOCK).write_text(text + "\n", "utf-8")


def resolve(architecture: str, python: str) -> list[dict[str, str]]:
    """The wheels that pip would install on this architecture and Python version."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
        command += ["--ignore-installed", "--report", "-", "--target", folder]
        command += [*platform_flags(architecture, python), *REQUIREMENTS]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = [entry(item) for item in json.loads(done.stdout)["install"]]
    return sorted(found, key=lambda wheel: wheel["name"])


def entry(item: dict[str, Any]) -> dict[str, str]:
    metadata, download = item["metadata"], item["download_info"]
    return {
        "name": metadata["name"],
        "version": metadata["version"],
        "file": PurePosixPath(download["url"]).name,
        "sha256": download["archive_info"]["hashes"]["sha256"],
    }


if __name__ == "__main__":
    main()
