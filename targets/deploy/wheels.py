"""The wheels for a device: locked by version and sha256, fetched by pip or read from a folder.

pip verifies the hashes, and they are verified again before a wheel is opened, because a folder is
untrusted. A wheel is only read as an archive.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.bundle.file_checks import sha256_of

FORMAT = "handglass-wheels"
LOCK = Path(__file__).with_name("wheels.lock.json")
ARCHITECTURES = ("aarch64", "x86_64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
GLIBC = (2, 28)
"""The oldest glibc that the wheels support."""
_TAGS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def locked_wheels(architecture: str, python: str) -> list[Wheel]:
    """All wheels that Python `python` ("3.11") needs on `architecture` to run a bundle.

    Raises DeviceError for an unsupported combination.
    """
    wheels = json.loads(LOCK.read_text("utf-8"))["wheels"]
    try:
        return [Wheel(**entry) for entry in wheels[architecture][python]]
    except KeyError as error:
        raise DeviceError(
            f"no runtime for Python {python} on {architecture}: available for Python "
            f"{', '.join(PYTHONS)} on {', '.join(wheels)}"
        ) from error


def fetch(
    wheels: Sequence[Wheel], architecture: str, python: str, cache: Path, offline: Path | None
) -> dict[Wheel, Path]:
    """The path of each wheel: in `offline`, or else in `cache`, downloaded if missing.

    Raises MismatchError if the hash of a file differs, DeviceError if a wheel is unavailable.
    """
    folder = offline or cache
    missing = [wheel for wheel in wheels if not (folder / wheel.file).is_file()]
    if missing and offline:
        names = ", ".join(wheel.file for wheel in missing)
        raise DeviceError(f"{offline}: {names} are missing; omit --offline to download them")
    if missing:
        _download(missing, architecture, python, cache)
    for wheel in wheels:
        _check(folder / wheel.file, wheel)
    return {wheel: folder / wheel.file for wheel in wheels}


def platform_flags(architecture: str, python: str) -> Iterator[str]:
    """pip flags that select the wheels of another machine."""
    yield from ("--only-binary=:all:", "--python-version", python, "--implementation", "cp")
    for tag in _TAGS:
        yield from ("--platform", f"{tag}_{architecture}")


def _download(wheels: Sequence[Wheel], architecture: str, python: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    requirements = cache / f"requirements-{architecture}-{python}.txt"
    requirements.write_text("".join(f"{wheel.requirement}\n" for wheel in wheels))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--dest", str(cache), "--requirement", str(requirements)]
    command += platform_flags(architecture, python)
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        kind = MismatchError if "DO NOT MATCH" in done.stderr else DeviceError
        raise kind(f"pip could not fetch the runtime's wheels:\n{done.stderr.strip()[-2000:]}")


def _check(file: Path, wheel: Wheel) -> None:
    found = sha256_of(file)
    if found != wheel.sha256:
        raise MismatchError(
            f"{file}: sha256 is {found}, {LOCK.name} expects {wheel.sha256}; delete the file to "
            "download it again"
        )
