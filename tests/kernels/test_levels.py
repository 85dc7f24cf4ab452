"""The levels of tests/support/levels.py: each selects its instruction set, and all are covered."""

from dataclasses import replace

import pytest

pytest.importorskip("tvm", reason="levels are targets of the TVM compiler")

import tvm
from levels import BY_INSTRUCTION, HERE, LEVELS, MACHINE, Level, distinct, standing_in
from test_amx import M
from test_integer_matmul import product
from test_targets import GRAVITON_3, SAPPHIRE_RAPIDS
from tile_emulator import emulated, open_emulator

from handglass.compiler import build
from handglass.compiler.schemes.integer import Integer
from handglass.runtime.engine import library
from handglass.runtime.system.cpu_level import BEYOND, without_beyond
from handglass.schedules.isa.amx_configuration import configure_tiles
from handglass.schedules.isa.amx_instructions import uses_tiles
from handglass.schedules.isa.integer_isa import AMX, INTEGER_ISAS, find_integer_isa
from handglass.schedules.select import cpu_units
from handglass.targets import find_target
from handglass.targets.table import host_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: level.name)
def test_the_target_of_a_level_selects_its_instruction_set(level: Level) -> None:
    assert find_integer_isa(tvm.target.Target(level.target.tvm)) is level.isa


def test_every_instruction_set_has_a_level_and_the_level_of_the_host_runs_here() -> None:
    assert set(LEVELS) == {isa.name for isa in INTEGER_ISAS}
    host = find_integer_isa(tvm.target.Target(find_target("host").tvm))
    assert LEVELS[host.name] in BY_INSTRUCTION and LEVELS[host.name].has_tiles
    assert all(level.architecture == HERE for level in BY_INSTRUCTION)


@pytest.mark.skipif(HERE not in BEYOND, reason="no levels of this architecture")
def test_the_masks_of_this_machine_differ() -> None:
    """The last removes nothing, so `make test-levels` also tests the unmasked machine."""
    left = [without_beyond(HERE, level, MACHINE.flags) for level in distinct()]
    assert len(set(left)) == len(left) and left[-1] == MACHINE.flags


def test_the_emulator_replaces_every_tile_instruction() -> None:
    func = product(M, 48, 64, Integer("s", 8, 0.0, units=cpu_units(AMX)))
    mod = configure_tiles()(LEVELS["amx"].schedule(func).mod)
    assert uses_tiles(mod["main"].body)
    replaced = emulated(mod)
    assert not uses_tiles(replaced["main"].body)
    assert "x86.tile" not in replaced.script() and "ldtilecfg" in replaced.script()


@pytest.mark.skipif(LEVELS["amx"] not in BY_INSTRUCTION, reason="needs AVX-512 VNNI")
def test_standing_in_is_undone_and_reports_faults() -> None:
    before = build.find_target, build.build_library, library.this_machine, library.allow_tiles
    with standing_in(LEVELS["amx"]):
        assert "amx_tile" in library.this_machine()[1]
        assert build.find_target("host") == LEVELS["amx"].target
    assert before == (
        *(build.find_target, build.build_library),
        *(library.this_machine, library.allow_tiles),
    )
    if LEVELS["amx"].has_tiles:
        return
    with pytest.raises(AssertionError, match="fault"), standing_in(LEVELS["amx"]):
        open_emulator().library.handglass_emulated_tdpbf16ps(0, 4, 6)
    open_emulator().reset()


FULL = {
    "x86_64": (frozenset(SAPPHIRE_RAPIDS.split()), {}),
    "aarch64": (frozenset(GRAVITON_3.split()), {"neon": "plain", "dotprod": "sdot"}),
}


@pytest.mark.parametrize(
    ("architecture", "mask"), [(name, mask) for name, masks in BEYOND.items() for mask in masks]
)
def test_a_mask_selects_the_instruction_set_of_its_name(architecture: str, mask: str) -> None:
    flags, names = FULL[architecture]
    left = without_beyond(architecture, mask, flags)
    host = host_target(replace(MACHINE, architecture=architecture, flags=left))
    assert host is not None
    assert find_integer_isa(tvm.target.Target(host.tvm)).name == names.get(mask, mask)
