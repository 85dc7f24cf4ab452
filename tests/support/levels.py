"""One simulated machine per instruction set, for tests of code that depends on the host.

A level uses the real instructions if this CPU, as masked by HANDGLASS_CPU_LEVEL, has them.
Otherwise they are emulated: dot products by portable arithmetic, tile registers in C.
`python tests/support/levels.py` prints the values of that variable that differ on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest
import tvm
from tile_emulator import emulated, open_emulator
from tvm import tirx
from tvm.s_tir import Schedule

from handglass.compiler import build
from handglass.runtime.engine import library
from handglass.runtime.system.cpu_level import BEYOND, without_beyond
from handglass.runtime.system.hardware import read_machine
from handglass.runtime.system.machine import architecture
from handglass.runtime.system.tiles import FLAG, ask_for_tiles
from handglass.schedules.choices import DEFAULTS, Choices
from handglass.schedules.cpu.amx import schedule_tiles
from handglass.schedules.cpu.dot import schedule_dot
from handglass.schedules.cpu.smmla import schedule_pairs
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.integer_isa import INTEGER_ISAS, IntegerIsa
from handglass.targets import Target, find_target
from handglass.targets.presets import aarch64, x86
from handglass.targets.table import host_target

MACHINE = read_machine()
HERE = architecture(MACHINE.architecture)
LEAST = {"x86_64": (), "aarch64": aarch64.FLOOR}
X86_FLOORS: dict[str, tuple[str, ...]] = {
    "avx2": x86.V3,
    "avx-vnni": (*x86.V3, "avx_vnni"),
    "avx512": x86.V4,
    "avx512-vnni": (*x86.V4, "avx512_vnni"),
    "amx": (*x86.V4, *x86.AMX_FLAGS),
}
ARM_FLOORS = {"sdot": aarch64.DOTPROD, "i8mm": aarch64.I8MM}


@dataclass(frozen=True)
class Level:
    """A machine that multiplies integers with `isa` and has only the flags that this requires."""

    isa: IntegerIsa
    architecture: str
    floor: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.isa.name

    @property
    def target(self) -> Target:
        """The target `host` of this machine."""
        target = host_target(
            replace(MACHINE, architecture=self.architecture, flags=frozenset(self.floor))
        )
        assert target is not None
        return target

    @cached_property
    def has_vectors(self) -> bool:
        """Whether this CPU executes all instructions except those on tiles."""
        vectors = {flag for flag in self.floor if not flag.startswith("amx_")}
        return self.architecture == HERE and vectors <= MACHINE.flags

    @cached_property
    def has_tiles(self) -> bool:
        """Whether it also executes tile instructions (Linux permitting), or needs none."""
        wanted = {flag for flag in self.floor if flag.startswith("amx_")}
        return not wanted or (wanted <= MACHINE.flags and ask_for_tiles() == 0)

    def schedule(
        self, func: tirx.PrimFunc, choices: Choices = DEFAULTS, seed: int | None = None
    ) -> Schedule:
        """Schedule an integer matmul with the rule of this level."""
        sch, emulate = Schedule(func, seed=seed), not self.has_vectors
        assert (
            schedule_dot(sch, self.isa, choices, emulate)
            or schedule_pairs(sch, self.isa, choices, emulate)
            or schedule_tiles(sch, choices)
        )
        return sch

    def compile(self, sch: Schedule) -> Any:
        """Compile to machine code that runs on this machine."""
        code = self.target if self.has_vectors else find_target("host")
        return compiled(sch.mod, code, self.has_tiles)["main"]


def compiled(mod: tvm.IRModule, target: Target, has_tiles: bool) -> Any:
    """Compile scheduled functions; tile registers are configured, and emulated without them."""
    mod = configure_tiles()(mod)
    if not has_tiles:
        open_emulator()
        mod = emulated(mod)
    return tvm.compile(mod, tvm.target.Target(target.tvm))


def compiled_here(mod: tvm.IRModule) -> Any:
    """Compile scheduled functions for `host`, whose tile registers need Linux's permission."""
    host = find_target("host")
    return compiled(mod, host, FLAG not in host.features or ask_for_tiles() == 0)


def _level(isa: IntegerIsa) -> Level:
    if isa.name in X86_FLOORS:
        return Level(isa, "x86_64", X86_FLOORS[isa.name])
    if isa.name in ARM_FLOORS:
        return Level(isa, "aarch64", ARM_FLOORS[isa.name])
    return Level(isa, HERE, LEAST[HERE])


LEVELS = {isa.name: _level(isa) for isa in INTEGER_ISAS}
BY_INSTRUCTION = [level for level in LEVELS.values() if level.has_vectors]
"""Levels that run on this machine by their own instructions; only tiles may be emulated."""


@contextmanager
def standing_in(level: Level) -> Iterator[None]:
    """Compile `host` for the level, and load its bundles, on this machine.

    Requires `has_vectors`. Missing tiles are emulated. Fails at the end if a tile instruction would
    have raised a fault.
    """
    assert level.has_vectors, level.name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "find_target", lambda name: level.target)
        if level.has_tiles:
            yield
            return
        emulator = open_emulator()
        emulator.reset()
        patch.setattr(build, "build_library", _build_emulated)
        flags = MACHINE.flags | set(level.floor)
        patch.setattr(library, "this_machine", lambda: (MACHINE.architecture, flags))
        patch.setattr(library, "allow_tiles", lambda target: None)
        yield
        assert emulator.errors == (0, ""), "a tile instruction would have raised a fault"


_build_library = build.build_library


def _build_emulated(mod: tvm.IRModule, *where: Any) -> Any:
    return _build_library(emulated(mod), *where)


def distinct() -> list[str]:
    """Levels that mask this machine to different sets of flags, lowest first."""
    levels = BEYOND.get(HERE, {})
    left = {without_beyond(HERE, level, MACHINE.flags): level for level in reversed(levels)}
    return [level for level in levels if level in left.values()]


if __name__ == "__main__":
    print(*distinct())
