"""Compares the capabilities that a bundle's code requires with those of a machine, and what it can
do with what is wanted of it.

An unsupported instruction kills the process without a message, so these checks run before any
library of the bundle is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import DeviceError, InputError

from ..system.machine import architecture
from .entries import TargetEntry

if TYPE_CHECKING:
    from .manifest import Manifest

BITS = ("_operations", "subgroup_sizes")
"""Capabilities whose names have these suffixes are bit masks."""
EXACTLY = ("subgroup_size", "min_subgroup_size", "max_subgroup_size")
"""Capabilities that must be equal, in bundles whose kernels do not request a subgroup size."""


def check_answers(manifest: Manifest, path: Path) -> None:
    """Raise InputError for what answers no questions; `path` is that of its bundle."""
    if manifest.graph is not None:
        raise InputError(
            f"{path}: {manifest.model.name} is an imported graph, which answers no questions; "
            "give it arrays: handglass apply"
        )
    if manifest.encoders is not None:
        raise InputError(
            f"{path}: {manifest.model.name} is an encoder, which answers no questions; use "
            "handglass embed, classify, index and search"
        )


def check_target(target: TargetEntry, machine: str, flags: frozenset[str]) -> None:
    """Raise DeviceError for code of another architecture or with instructions this CPU lacks.

    `machine` and `flags` are the architecture and the CPU flags as Linux spells them.
    """
    wanted = architecture(target.triple.split("-")[0])
    if wanted != architecture(machine):
        raise DeviceError(
            f"the bundle is compiled for {wanted} (target {target.name}), but this machine is "
            f"{machine}; compile with a target that fits this machine"
        )
    missing = [feature for feature in target.features if feature not in flags]
    if missing:
        raise DeviceError(
            f"the bundle is compiled for {target.cpu} (target {target.name}); this CPU lacks "
            f"{', '.join(missing)}; compile with a target that fits this machine"
        )


def missing_capabilities(
    needed: Mapping[str, bool | int],
    found: Mapping[str, bool | int],
    lost: frozenset[str] = frozenset(),
) -> list[str]:
    """A sentence for each capability that is needed and either missing or in `lost`."""
    sentences = (_missing(name, n, found.get(name), name in lost) for name, n in needed.items())
    return [sentence for sentence in sentences if sentence]


def _missing(name: str, needed: bool | int, found: bool | int | None, lost: bool) -> str:
    """A sentence, or the empty string if the device has the capability."""
    if not needed:
        return ""
    if lost:
        return f"its driver is known to compute wrong results with {name}"
    if name.startswith("supports_"):
        return "" if found else f"it lacks {name}"
    found = int(found or 0)
    if name in EXACTLY:
        return f"{name} must be {needed}, the device has {found}" if found != needed else ""
    if name.endswith(BITS):
        missing = needed & ~found
        return f"{name} needs bits {needed:#x}, the device lacks {missing:#x}" if missing else ""
    return f"{name} must be at least {needed}, the device has {found}" if found < needed else ""
