"""What this machine can do for a target: run its code, emulate it, or link it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from handglass.errors import DeviceError
from handglass.runtime.system.hardware import Machine
from handglass.runtime.system.machine import architecture

from .linking.linker import find_linker
from .target import Target


@dataclass(frozen=True)
class Abilities:
    """Whether and how this machine runs, emulates and links code for a target."""

    missing: tuple[str, ...] | None
    """Required instruction sets that the machine lacks; None if the architecture differs."""
    emulator: tuple[str, ...]
    """Command that runs a program with the target's instruction floor; empty if not installed."""
    linker: tuple[str, ...]
    """Command that links for the target; empty if there is none, see `advice`."""
    advice: str = ""

    @property
    def runs(self) -> bool:
        return self.missing == ()


def abilities(target: Target, machine: Machine) -> Abilities:
    same = target.architecture == architecture(machine.architecture)
    missing = target.missing_on(machine.flags) if same else None
    try:
        return Abilities(missing, find_emulator(target), find_linker(target).command)
    except DeviceError as error:
        return Abilities(missing, find_emulator(target), (), str(error))


def find_emulator(target: Target) -> tuple[str, ...]:
    """Command of QEMU's user-mode emulator for the oldest CPU with the target's floor, or ()."""
    found = shutil.which(f"qemu-{target.architecture}")
    return (found, "-cpu", target.emulator_cpu) if found and target.emulator_cpu else ()
