"""Which file to load: one that is given, else the package's own, else the cache's, else a new one.

A library is taken only if it was built from this package's sources for the versions of TVM and
tvm-ffi that are installed: a `DeviceAPI` is a C++ class, and its layout may change with them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handglass.errors import DeviceError

from ...system.machine import architecture
from ...system.user_cache import cache_folder
from .build import LIBRARY, RECORD, build_plugin, compiler_version, find_compiler, ingredients
from .sources import FOLDER, installed_version

PREBUILT = FOLDER / "prebuilt"  # put there by those who make wheels or bundles
_STALE = 3600.0  # seconds; no build takes that long


def find_library(given: Path | None = None) -> Path:
    """DeviceError in words where there is none and none can be built."""
    if given is not None:
        check_versions(given)
        return given
    machine = this_machine()
    return _fitting(PREBUILT, machine) or _cached(machine) or _build(find_compiler(), machine)


def cross_library(machine: str, compiler: Sequence[str]) -> Path:
    """The library for another machine ("aarch64-linux"), kept like those for this one.

    DeviceError in words where the compiler cannot build it.
    """
    return _cached(machine) or _build(compiler, machine)


def check_versions(library: Path) -> None:
    """DeviceError where the record beside a library names another machine or other versions.

    Without a record the caller vouches for it. A wheel that is not installed cannot disagree: a
    bundle brings the runtime that its library was built for.
    """
    if not library.is_file():
        raise DeviceError(f"{library}: there is no such Vulkan library")
    record = _read_record(library.parent)
    if record is None:
        return
    here = {
        "machine": this_machine(),
        "tvm": installed_version("apache-tvm"),
        "tvm_ffi": installed_version("apache-tvm-ffi"),
    }
    for key, mine in here.items():
        built = record.get(key)
        if mine is not None and built and built != mine:
            raise DeviceError(
                f"{library} was built for {key} {built}, and this is {mine}; build it anew"
            )


def this_machine() -> str:
    return f"{architecture(platform.machine())}-linux"


def _cached(machine: str) -> Path | None:
    """Any compiler's build will do: one may have been installed for the build alone."""
    folders = (record.parent for record in sorted(cache_folder("vulkan").glob(f"*/{RECORD}")))
    return next(filter(None, (_fitting(folder, machine) for folder in folders)), None)


def _fitting(folder: Path, machine: str) -> Path | None:
    record = _read_record(folder)
    wanted = ingredients(machine).described()
    if record is None or any(record.get(key) != value for key, value in wanted.items()):
        return None
    library = folder / LIBRARY
    try:
        found = hashlib.sha256(library.read_bytes()).hexdigest()
    except OSError:
        return None
    return library if found == record.get("sha256") else None


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _build(compiler: Sequence[str], machine: str) -> Path:
    cache = cache_folder("vulkan")
    wanted = {**ingredients(machine).described(), "compiler": compiler_version(compiler)}
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as scratch:
            build_plugin(compiler, Path(scratch, key))
            return _publish(Path(scratch, key), cache / key, machine)
    except OSError as error:
        raise DeviceError(f"the Vulkan library cannot be built in {cache}: {error}") from error


def _sweep(cache: Path) -> None:
    """What a build that was killed left behind."""
    for folder in cache.glob(".new-*"):
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(made: Path, home: Path, machine: str) -> Path:
    """Another process may have been faster: then theirs, which was built from the same."""
    try:
        made.rename(home)
    except OSError:
        if _fitting(home, machine) is None:  # a torn one of before: file by file, the record last
            home.mkdir(parents=True, exist_ok=True)
            for name in (LIBRARY, RECORD):
                (made / name).replace(home / name)
    return home / LIBRARY
