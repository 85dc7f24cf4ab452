"""Tiny releases compiled in float32, once per test run for all files that use them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from released import Release, write_release
from released46 import Reference, write_checkpoint
from released_early import Early, write_early
from shared import made_once

import handglass
from handglass.compiler.build import compile_model


def _merged(*options: Any) -> Callable[[Path], Reference]:
    return lambda folder: Reference(write_checkpoint(folder, *options))


def _early(version: str) -> Callable[[Path], Early]:
    return lambda folder: write_early(folder, version)


def _resampled(*options: str) -> Callable[[Path], Release]:
    return lambda folder: write_release(folder, *options)


MERGED: dict[str, Callable[[Path], Reference]] = {
    "4.6": _merged(),
    "4.6-4x": _merged("4x"),
    "4.7": _merged("16x", "4.7", False),
    "4.7-4x-tied": _merged("4x", "4.7", True),
}
RESAMPLED: dict[str, Callable[[Path], Release]] = {
    **{version: _resampled(version) for version in ("2.5", "2.6", "4.0", "4.5")},
    "o-2.6": _resampled("2.6", "MiniCPMO"),
    "o-4.5": _resampled("4.5", "MiniCPMO"),
}
EARLY: dict[str, Callable[[Path], Early]] = {name: _early(name) for name in ("2.0", "1.0")}
WRITERS: dict[str, Callable[[Path], Any]] = MERGED | RESAMPLED | EARLY
"""Name of a release -> writes its checkpoint and returns its reference; the same every time."""


@dataclass(frozen=True)
class Shared:
    """A compiled release, and what computes the expected answers."""

    bundle: Path
    reference: Any


def compiled(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder with `checkpoint` and `bundle`, filled by the first worker that asks."""

    def make(folder: Path) -> None:
        WRITERS[name](folder / "checkpoint")
        context = 2048 if name in MERGED else 512 if name in EARLY else 1024
        compile_model(folder / "checkpoint", folder / "bundle", quantization="f32", context=context)

    return made_once(factory, f"release-{name}", make)


def shared_release(factory: pytest.TempPathFactory, name: str) -> Shared:
    folder = compiled(factory, name)
    return Shared(folder / "bundle", WRITERS[name](factory.mktemp("reference") / "checkpoint"))


def loaded(factory: pytest.TempPathFactory, name: str) -> tuple[Any, Any]:
    """The reference and the model of a release."""
    shared = shared_release(factory, name)
    return shared.reference, handglass.load(shared.bundle)
