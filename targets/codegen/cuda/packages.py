"""NVIDIA's packages from PyPI: which CUDA majors are installed, and where their files are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MAJORS = (12, 13)


@dataclass(frozen=True)
class Package:
    """The compiler of one CUDA major, as the extra `cudaMAJOR` of handglass installs it."""

    major: int
    library: str
    """libnvrtc, relative to the folder `nvidia` of the installed packages."""
    headers: tuple[str, ...]
    """Folders with cuda_fp16.h and with crt/."""

    @property
    def install(self) -> str:
        return f"pip install 'handglass[cuda{self.major}]'"

    def find(self) -> tuple[Path, tuple[Path, ...]] | None:
        """The library and its folders of headers; None if one is not installed."""
        library = _first(self.library)
        headers = tuple(filter(None, map(_first, self.headers)))
        complete = library is not None and len(headers) == len(self.headers)
        return (library, headers) if library is not None and complete else None


PACKAGES = {
    12: Package(
        12,
        "cuda_nvrtc/lib/libnvrtc.so.12",
        ("cuda_runtime/include", "cuda_nvcc/include"),
    ),
    13: Package(13, "cu13/lib/libnvrtc.so.13", ("cu13/include",)),
}


def _first(name: str) -> Path | None:
    return next((folder / name for folder in _folders() if (folder / name).exists()), None)


def _folders() -> Iterator[Path]:
    """The folders `nvidia`: a namespace package, which may be in several places."""
    spec = find_spec("nvidia")
    yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())
