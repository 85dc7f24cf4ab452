"""What a machine can do for a target, for machines other than this one."""

from typing import Any

import pytest

from handglass.runtime.system.hardware import describe
from handglass.targets import abilities, known_targets
from handglass.targets.linking import linker

PI_4 = describe("aarch64", "Features : fp asimd crc32\n", "", 4)
BARE_X86 = describe("x86_64", "flags : sse2\n", "", 2)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Simulates a machine on which only these programs are installed."""

    def pretend(*names: str, zig: bool = False) -> None:
        which = lambda name: f"/usr/bin/{name}" if name in names else None  # noqa: E731
        monkeypatch.setattr("shutil.which", which)
        monkeypatch.setattr(linker, "find_spec", lambda name: object() if zig else None)

    return pretend


def test_what_runs_on_a_machine(programs: Any) -> None:
    programs()
    assert abilities.abilities(known_targets()["raspberry-pi-4"], PI_4).runs
    newer = abilities.abilities(known_targets()["raspberry-pi-5"], PI_4)
    assert not newer.runs and newer.missing and "asimddp" in newer.missing
    other = abilities.abilities(known_targets()["raspberry-pi-4"], BARE_X86)
    assert (other.runs, other.missing) == (False, None)


def test_an_emulator_takes_the_floor(programs: Any) -> None:
    programs("qemu-aarch64")
    found = abilities.find_emulator(known_targets()["raspberry-pi-5"])
    assert found == ("/usr/bin/qemu-aarch64", "-cpu", "cortex-a76")
    assert abilities.find_emulator(known_targets()["x86-64-v3"]) == ()
    programs()
    assert abilities.find_emulator(known_targets()["raspberry-pi-5"]) == ()


def test_what_links(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    programs("aarch64-linux-gnu-gcc")
    found = abilities.abilities(known_targets()["raspberry-pi-5"], BARE_X86)
    assert found.linker == ("/usr/bin/aarch64-linux-gnu-gcc",)
    programs(zig=True)
    assert "ziglang" in abilities.abilities(known_targets()["raspberry-pi-5"], BARE_X86).linker
    programs()
    nothing = abilities.abilities(known_targets()["raspberry-pi-5"], BARE_X86)
    assert nothing.linker == () and "pip install ziglang" in nothing.advice


def test_the_table_fits_a_terminal_of_100_columns(handglass: Any) -> None:
    lines = handglass("targets").out.splitlines()
    description = [line for line in lines if line.startswith("    this machine")]
    assert all(len(line) <= 100 for line in lines if line not in description)


def test_json_tells_what_stands_behind_a_target(handglass: Any, programs: Any) -> None:
    programs("qemu-aarch64")
    rows = {row["name"]: row for row in handglass("targets", "--json").json["targets"]}
    pi = rows["raspberry-pi-5"]
    assert pi["emulated_by"] == ["/usr/bin/qemu-aarch64", "-cpu", "cortex-a76"]
    assert pi["linked_by"] == [] and "ziglang" in pi["advice"]
    assert pi["evidence"] == "ran under emulation only; not timed on hardware"
    assert any("qemu-aarch64" in entry["emulator"] for entry in pi["evidence_entries"])
    assert rows["x86-64-v3"]["evidence"] == "ran; timed on hardware"
    never = {name for name, row in rows.items() if not row["evidence_entries"]}
    assert (
        never == {n for n, row in rows.items() if row["evidence"].startswith("never run")} != set()
    )
