"""Python packages for a device: one archive per wheel, with only the files needed at run time.

The device unpacks an archive into a folder named after a hash of its contents; a folder with that
name is complete. No code of a wheel is executed on this machine: no installer, script or bytecode.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import handglass
from handglass.errors import MismatchError

from .wheels import Wheel

# TVM: only the 3 MB runtime library; the whole package includes a compiler of 230 MB. tvm_ffi:
# without the files for building extensions. numpy: without some modules that no import loads.
ONLY = {"apache-tvm": r"tvm/lib/libtvm_runtime\.so$"}
WITHOUT = {
    "apache-tvm-ffi": r"tvm_ffi/(3rdparty|cython|include|share|src|stub|testing|CMakeLists)",
    "numpy": r"numpy/(f2py|distutils|typing/tests)/",
}
NOWHERE = re.compile(r"/tests/|\.pyi$|\.dist-info/RECORD$|\.data/")
ROOMS = ("cli", "runtime", "targets")
"""The parts of handglass that a device uses; the compiler is not deployed."""


@dataclass(frozen=True)
class Package:
    """A package to deploy; `files`: path below site-packages -> contents."""

    name: str
    files: dict[str, bytes]

    @property
    def folder(self) -> str:
        """Folder name with a hash of the contents."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return f"{self.name}-{digest.hexdigest()[:16]}"

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))

    def write(self, archive: Path) -> None:
        """Write a gzipped tar of regular files, without links, owners and timestamps."""
        with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
            for name, content in sorted(self.files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))


def from_wheel(wheel: Wheel, file: Path) -> Package:
    """The files of a wheel that a device needs, including its licences.

    Raises MismatchError for a member outside the folder.
    """
    with zipfile.ZipFile(file) as opened:
        names = [name for name in opened.namelist() if wanted(wheel.name, name)]
        for name in names:
            _check_name(file, name)
        return Package(f"{wheel.name}-{wheel.version}", {name: opened.read(name) for name in names})


def wanted(package: str, name: str) -> bool:
    if name.endswith("/") or NOWHERE.search(name):
        return False
    if ".dist-info/" in name:
        return True
    if package in ONLY:
        return re.match(ONLY[package], name) is not None
    return package not in WITHOUT or re.match(WITHOUT[package], name) is None


def _check_name(file: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name:
        raise MismatchError(f"{file}: member {name!r} is outside the wheel's folder")


def ourselves() -> Package:
    """The installed handglass, without its compiler."""
    root = Path(handglass.__file__).parent
    files = [*root.glob("*.py"), *(f for room in ROOMS for f in _sources(root / room))]
    named = {f"handglass/{file.relative_to(root).as_posix()}": file.read_bytes() for file in files}
    metadata = f"Metadata-Version: 2.1\nName: handglass\nVersion: {handglass.__version__}\n"
    named[f"handglass-{handglass.__version__}.dist-info/METADATA"] = metadata.encode()
    return Package(f"handglass-{handglass.__version__}", named)


def _sources(room: Path) -> Iterable[Path]:
    return sorted(file for file in room.rglob("*") if file.suffix in (".py", ".json"))
