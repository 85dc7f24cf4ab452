"""Finds the plug-in to load: a given file, or one in the package, in the cache, or a new build.

A library is used only if it was built from the sources of this package for the installed versions
of TVM and tvm-ffi: `DeviceAPI` is a C++ class whose layout may change between versions.
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

from handglass.errors import DeviceError, MismatchError

from ...system.machine import architecture
from ...system.packages import installed_version
from ...system.regular_file import read_regular
from ...system.sealed_copy import read_checked
from ...system.shared_library import SharedLibrary
from ...system.user_cache import cache_folder, close_to_others, is_private
from .build import RECORD, build_plugin, compiler_version, find_compiler, ingredients
from .recipe import Recipe

PREBUILT = "prebuilt"  # a folder beside the sources, filled when wheels or bundles are made
_LARGEST_RECORD = 1 << 16
_STALE = 3600.0  # seconds; no build takes that long


def find_library(recipe: Recipe, given: SharedLibrary | None = None) -> SharedLibrary:
    """The library to load. Raises DeviceError if there is none and none can be built."""
    if given is not None:
        check_versions(recipe, given.path)
        return given
    machine = this_machine()
    return (
        _fitting(recipe, recipe.folder / PREBUILT, machine)
        or _cached(recipe, machine)
        or _build(recipe, find_compiler(recipe), machine)
    )


def cross_library(recipe: Recipe, machine: str, compiler: Sequence[str]) -> SharedLibrary:
    """The library for another machine ("aarch64-linux"), from the cache or a new build.

    Raises DeviceError if the compiler cannot build it.
    """
    return _cached(recipe, machine) or _build(recipe, compiler, machine)


def check_versions(recipe: Recipe, library: Path) -> None:
    """Raise DeviceError if the record of a library names another machine or other versions.

    A library without a record is accepted. The version of a wheel that is not installed is not
    compared: a bundle contains the runtime that its library was built for.
    """
    if not library.is_file():
        raise DeviceError(f"{library}: no such file, which should be {recipe.product}")
    record = _read_record(library.parent)
    if record is None:
        return
    installed = {
        "machine": this_machine(),
        "tvm": installed_version("apache-tvm"),
        "tvm_ffi": installed_version("apache-tvm-ffi"),
    }
    for key, current in installed.items():
        built = record.get(key)
        if current is not None and built and built != current:
            raise DeviceError(
                f"{library} was built for {key} {built}, but this machine has {current}; rebuild it"
            )


def this_machine() -> str:
    return f"{architecture(platform.machine())}-linux"


def _cached(recipe: Recipe, machine: str) -> SharedLibrary | None:
    """A cached library of any compiler; the compiler may have been installed only for the build."""
    folders = (record.parent for record in sorted(cache_folder(recipe.kind).glob(f"*/{RECORD}")))
    fitting = (_fitting(recipe, folder, machine) for folder in folders if _is_ours(recipe, folder))
    return next(filter(None, fitting), None)


def _is_ours(recipe: Recipe, folder: Path) -> bool:
    """Whether only this user could have written the folder, its record and its library.

    The record holds the hash of the library, so it must be as safe as the library itself.
    """
    try:
        places = (folder.parent, folder, folder / RECORD, folder / recipe.library)
        return all(is_private(place.stat()) for place in places)
    except OSError:
        return False


def _fitting(recipe: Recipe, folder: Path, machine: str) -> SharedLibrary | None:
    record = _read_record(folder)
    wanted = ingredients(recipe, machine).described()
    if record is None or any(record.get(key) != value for key, value in wanted.items()):
        return None
    library = SharedLibrary(folder / recipe.library, str(record.get("sha256")))
    try:
        read_checked(library)
    except MismatchError:
        return None
    return library


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(read_regular(folder / RECORD, _LARGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _build(recipe: Recipe, compiler: Sequence[str], machine: str) -> SharedLibrary:
    cache = cache_folder(recipe.kind)
    wanted = {
        **ingredients(recipe, machine).described(),
        "compiler": compiler_version(recipe, compiler),
    }
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:32]
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as scratch:
            built = build_plugin(recipe, compiler, Path(scratch, key))
            close_to_others(cache, built.parent, *built.parent.iterdir())
            home = _publish(recipe, Path(scratch, key), cache / key, machine)
    except OSError as error:
        raise DeviceError(f"{recipe.product} cannot be built in {cache}: {error}") from error
    library = _fitting(recipe, home, machine)
    if library is None or not _is_ours(recipe, home):
        raise DeviceError(
            f"{home}: {recipe.product} cannot be used from there, because another user can write "
            "it; remove group and world write permission from these folders, or set "
            "XDG_CACHE_HOME to a folder of your own"
        )
    return library


def _sweep(cache: Path) -> None:
    """Remove the folders of killed builds."""
    for folder in cache.glob(".new-*"):
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(recipe: Recipe, made: Path, home: Path, machine: str) -> Path:
    """Move a build to its final folder, or use an equal build of another process."""
    try:
        made.rename(home)
    except OSError:
        if _fitting(recipe, home, machine) is None:  # incomplete: replace its files
            home.mkdir(parents=True, exist_ok=True)
            for name in (recipe.library, RECORD):  # the record last: it marks completeness
                (made / name).replace(home / name)
    return home
