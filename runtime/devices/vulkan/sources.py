"""The inputs of the plug-in: our C++ sources and the headers of the apache-tvm wheels.

The wheels are located, not imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ...system.packages import header_folders

FOLDER = Path(__file__).parent
SUPPORT = FOLDER.parents[1] / "native" / "support"  # headers of TVM's that are not in its wheel


@dataclass(frozen=True)
class Ingredients:
    """The inputs of a build; libraries with equal inputs are interchangeable."""

    sources: str  # sha256 of our source files
    tvm: str
    tvm_ffi: str
    machine: str  # architecture and operating system, as in "x86_64-linux"

    def described(self) -> dict[str, str]:
        return asdict(self)


@cache
def sources_hash() -> str:
    digest = hashlib.sha256()
    for path in [*cpp_files(), *sorted(FOLDER.glob("*.h")), *sorted(SUPPORT.rglob("*.h"))]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def cpp_files() -> list[Path]:
    return sorted(FOLDER.glob("*.cc"))


def include_folders() -> list[Path]:
    """Include folders. Raises DeviceError if a wheel or its headers are missing."""
    return [SUPPORT, *header_folders("the Vulkan library")]
