"""What the code of a bundle requires of a machine, compared with what the machine has.

An instruction that the CPU lacks ends the process without a word, so this is checked before
anything of the bundle is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from handglass.errors import DeviceError

from ..system.machine import architecture
from .entries import TargetEntry

BITS = ("_operations", "subgroup_sizes")
"""Abilities whose name ends like this are sets of bits."""
EXACTLY = ("subgroup_size", "min_subgroup_size", "max_subgroup_size")
"""And those that must be the same number, in bundles whose kernels do not say so themselves."""


def check_target(target: TargetEntry, machine: str, flags: frozenset[str]) -> None:
    """Refuse code for another architecture or with instructions that this CPU lacks."""
    wanted = architecture(target.triple.split("-")[0])
    if wanted != architecture(machine):
        raise DeviceError(
            f"the bundle is compiled for {wanted} (target {target.name}), this machine is {machine}"
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
    """A sentence about everything that is needed and not found, or is `lost`."""
    sentences = (_missing(name, n, found.get(name), name in lost) for name, n in needed.items())
    return [sentence for sentence in sentences if sentence]


def _missing(name: str, needed: bool | int, found: bool | int | None, lost: bool) -> str:
    """A sentence, or nothing where the device has it."""
    if not needed:
        return ""
    if lost:
        return f"{name} is not to be used there: its driver is known to get it wrong"
    if name.startswith("supports_"):
        return "" if found else f"it lacks {name}"
    found = int(found or 0)
    if name in EXACTLY:
        return f"{name} must be {needed}, it has {found}" if found != needed else ""
    if name.endswith(BITS):
        missing = needed & ~found
        return f"{name} needs {needed:#x}, of which it lacks {missing:#x}" if missing else ""
    return f"{name} must be {needed} at least, it has {found}" if found < needed else ""
