"""Instruction set bits that Linux reports on ARM."""

import platform

import pytest

from handglass.runtime.system import machine
from handglass.runtime.system.hwcap import arm_flags, named
from handglass.targets import known_targets


def test_bits_have_the_names_of_cpuinfo() -> None:
    assert named(0b11, 0) == {"fp", "asimd"}
    assert named(1 << 20 | 1 << 14, 1 << 13) == {"asimddp", "fcma", "i8mm"}
    assert named(1 << 22, 1 << 1) == {"sve", "sve2"}
    assert named(1 << 60, 1 << 60) == set()


def test_every_floor_can_be_told() -> None:
    everything = named((1 << 32) - 1, (1 << 32) - 1)
    for target in known_targets().values():
        if target.architecture == "aarch64":
            assert not target.missing_on(everything), target.name


@pytest.mark.skipif(
    platform.machine() != "aarch64",
    reason="asks the kernel of an ARM machine: run the tests on one",
)
def test_this_machine() -> None:
    assert {"fp", "asimd"} <= arm_flags()


def test_an_arm_machine_is_asked_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under an emulator, /proc/cpuinfo describes the host."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(machine, "cpu_flags", lambda text: frozenset({"of the host"}))
    monkeypatch.setattr(machine, "arm_flags", lambda: frozenset({"asimd"}))
    assert machine.this_machine() == ("aarch64", {"asimd"})
    monkeypatch.setattr(machine, "arm_flags", frozenset)  # a C library without getauxval
    assert machine.this_machine() == ("aarch64", {"of the host"})
