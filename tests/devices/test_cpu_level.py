"""Masking CPU flags by level: flags are removed and never added."""

import os
import subprocess
import sys

import pytest
from test_targets import ALDER_LAKE, CORTEX_A78, GRAVITON_3, HASWELL, SAPPHIRE_RAPIDS, machine

from handglass.errors import UsageError
from handglass.runtime.system import hardware
from handglass.runtime.system.cpu_level import BEYOND, VARIABLE, within_level, without_beyond
from handglass.runtime.system.machine import architecture, this_machine
from handglass.targets.table import host_target

EVERYTHING = {"x86_64": SAPPHIRE_RAPIDS, "aarch64": GRAVITON_3}
LEVELS = [(name, level) for name, levels in BEYOND.items() for level in levels]


def flags_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


@pytest.mark.parametrize(
    ("level", "cpu", "mattr"),
    [
        ("avx2", "x86-64-v3", ()),
        ("avx-vnni", "x86-64-v3", ("+avxvnni",)),
        ("avx512", "x86-64-v4", ()),
        ("avx512-vnni", "x86-64-v4", ("+avxvnni", "+avx512vnni", "+avx512bf16", "+avx512fp16")),
        ("amx", "x86-64-v4", ("+avxvnni", "+avx512vnni", "+avx512bf16", "+avx512fp16")),
    ],
)
def test_the_host_target_of_a_masked_server(level: str, cpu: str, mattr: tuple[str, ...]) -> None:
    left = without_beyond("x86_64", level, flags_of(SAPPHIRE_RAPIDS))
    host = host_target(machine(" ".join(left)))
    assert host is not None and host.cpu == cpu
    assert host.mattr[: len(mattr)] == mattr
    assert ("+amx-tile" in host.mattr) == (level == "amx")
    assert len(mattr) > 1 or host.mattr == mattr


@pytest.mark.parametrize(("level", "cpu"), [("neon", "cortex-a72"), ("dotprod", "neoverse-n1")])
def test_the_host_target_of_a_masked_board(level: str, cpu: str) -> None:
    left = without_beyond("aarch64", level, flags_of(GRAVITON_3))
    host = host_target(machine(" ".join(left), "aarch64"))
    assert host is not None and host.cpu == cpu


@pytest.mark.parametrize(("name", "level"), LEVELS)
@pytest.mark.parametrize("flags", [HASWELL, ALDER_LAKE, SAPPHIRE_RAPIDS, CORTEX_A78, ""])
def test_a_mask_never_adds_flags(name: str, level: str, flags: str) -> None:
    assert without_beyond(name, level, flags_of(flags)) <= flags_of(flags)


@pytest.mark.parametrize("name", BEYOND)
def test_levels_differ_and_the_highest_removes_nothing(name: str) -> None:
    everything = flags_of(EVERYTHING[name])
    left = [without_beyond(name, level, everything) for level in BEYOND[name]]
    assert len(set(left)) == len(left) and left[-1] == everything


def test_without_the_variable_nothing_is_removed() -> None:
    flags = flags_of(SAPPHIRE_RAPIDS)
    assert (
        within_level("x86_64", flags, {}) == within_level("x86_64", flags, {VARIABLE: ""}) == flags
    )
    assert within_level("x86_64", flags, {VARIABLE: "avx2"}) < flags


@pytest.mark.parametrize(
    ("name", "known"),
    [("x86_64", "avx2, avx-vnni, avx512, avx512-vnni, amx"), ("riscv64", "none")],
)
def test_an_unknown_level_lists_the_known_ones(name: str, known: str) -> None:
    with pytest.raises(UsageError, match=f"{VARIABLE}=avx3.*{name}.*: {known}$"):
        within_level(name, frozenset(), {VARIABLE: "avx3"})


def test_the_mask_is_applied_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle check, the targets and the device server see the same flags."""
    monkeypatch.delenv(VARIABLE, raising=False)
    name, flags = this_machine()
    least = next(iter(BEYOND[architecture(name)]))
    monkeypatch.setenv(VARIABLE, least)
    left = without_beyond(architecture(name), least, flags)
    assert this_machine() == (name, left)
    assert hardware.read_machine().flags == left


def test_the_command_line_reports_an_unknown_level() -> None:
    command = [sys.executable, "-m", "handglass.cli.main", "targets"]
    done = subprocess.run(
        command, env={**os.environ, VARIABLE: "sse5"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {VARIABLE}=sse5") and "Traceback" not in done.stderr
