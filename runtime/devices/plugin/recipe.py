"""What the plug-in of a kind is made of: our C++ sources and the headers of the apache-tvm wheels.

The wheels are located, not imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ...system.packages import header_folders
from ..kinds import KINDS

SHARED = Path(__file__).parent
SUPPORT = SHARED.parents[1] / "native" / "support"  # headers of TVM's that are not in its wheel


@dataclass(frozen=True)
class Ingredients:
    """The inputs of a build; libraries with equal inputs are interchangeable."""

    sources: str  # sha256 of our source files
    tvm: str
    tvm_ffi: str
    machine: str  # architecture and operating system, as in "x86_64-linux"

    def described(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """The plug-in of one kind of device."""

    kind: str
    folder: Path
    """Its C++ sources, besides those in SHARED; `prebuilt` in it may hold a built library."""
    packages: str
    """What to install for a compiler and headers: "Debian, Ubuntu: apt install ..."."""
    header: str = ""
    """A header that the system must have, beyond those of the wheels; empty if there is none."""
    header_packages: str = ""
    """What to install for that header."""

    own_format: bool = False
    """Whether modules of the kind have a format of ours, so that TVM's own runtime, if there is one
    in the process, is replaced; else it is left in place."""

    @property
    def label(self) -> str:
        """The kind's name in messages, as in "the Vulkan library"."""
        return KINDS[self.kind].label

    @property
    def library(self) -> str:
        """The library's file name."""
        return KINDS[self.kind].library

    @property
    def product(self) -> str:
        return f"the {self.label} library"

    def cpp_files(self) -> list[Path]:
        return [*sorted(SHARED.glob("*.cc")), *sorted(self.folder.glob("*.cc"))]

    def include_folders(self) -> list[Path]:
        """Include folders. Raises DeviceError if a wheel or its headers are missing."""
        return [SUPPORT, SHARED, *header_folders(self.product)]

    def sources_hash(self) -> str:
        return _hash_of(self)


@cache
def _hash_of(recipe: Recipe) -> str:
    headers = [path for folder in (SHARED, recipe.folder) for path in sorted(folder.glob("*.h"))]
    digest = hashlib.sha256()
    for path in [*recipe.cpp_files(), *headers, *sorted(SUPPORT.rglob("*.h"))]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
