"""What this machine can do for a target: run its code, emulate it, link it."""

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
    """`missing` are instruction sets of the floor, None where the architecture is another."""

    missing: tuple[str, ...] | None
    emulator: tuple[str, ...]
    """The command that runs a program of the target's floor; empty: none is installed."""
    linker: tuple[str, ...]
    """The command that links for it; empty: none, and `advice` says what to install."""
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
    """QEMU's user mode emulator for programs of the target, on the oldest CPU of its floor."""
    found = shutil.which(f"qemu-{target.architecture}")
    return (found, "-cpu", target.emulator_cpu) if found and target.emulator_cpu else ()
