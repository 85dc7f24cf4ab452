"""The wheels that a device gets: locked by version and sha256, fetched by pip or from a folder.

pip is told to check the hashes, and they are checked again when a wheel is opened: a folder may be
anyone's. A wheel is only ever read as an archive.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.bundle.reader import sha256_of

FORMAT = "handglass-wheels"
LOCK = Path(__file__).with_name("wheels.lock.json")
ARCHITECTURES = ("aarch64", "x86_64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
GLIBC = (2, 28)
"""The oldest C library that the wheels run on."""
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
    """All that Python `python` ("3.11") needs on `architecture` to run a bundle."""
    wheels = json.loads(LOCK.read_text("utf-8"))["wheels"]
    try:
        return [Wheel(**entry) for entry in wheels[architecture][python]]
    except KeyError as error:
        raise DeviceError(
            f"no runtime for Python {python} on {architecture}: there are ones for Python "
            f"{', '.join(PYTHONS)} on {', '.join(wheels)}"
        ) from error


def fetch(
    wheels: Sequence[Wheel], architecture: str, python: str, cache: Path, offline: Path | None
) -> dict[Wheel, Path]:
    """Where each wheel is: in `offline`, or else in `cache`, downloaded if it is not there yet.

    Raises MismatchError where a file has another hash, DeviceError where it cannot be had.
    """
    folder = offline or cache
    missing = [wheel for wheel in wheels if not (folder / wheel.file).is_file()]
    if missing and offline:
        names = ", ".join(wheel.file for wheel in missing)
        raise DeviceError(f"{offline}: lacks {names}; leave --offline out to download them")
    if missing:
        _download(missing, architecture, python, cache)
    for wheel in wheels:
        _check(folder / wheel.file, wheel)
    return {wheel: folder / wheel.file for wheel in wheels}


def platform_flags(architecture: str, python: str) -> Iterator[str]:
    """pip's flags that ask for another machine's wheels."""
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
            f"{file}: sha256 {found}, {LOCK.name} says {wheel.sha256}; delete the file and let it "
            "be downloaded again"
        )
