"""The choice of linker for a target, and its arguments; test_target_build.py links."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from handglass.errors import DeviceError
from handglass.targets import find_target
from handglass.targets.linking import linker
from handglass.targets.linking.linker import Linker, find_linker

PI = find_target("raspberry-pi-5")
PHONE = find_target("android-arm64")
INLINE = ("-mno-outline-atomics",)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Simulates a machine of an architecture with these programs, with or without ziglang."""

    def pretend(architecture: str, programs: tuple[str, ...] = (), zig: bool = False) -> None:
        monkeypatch.setattr(linker.platform, "machine", lambda: architecture)
        which = lambda name: f"/usr/bin/{name}" if name in programs else None  # noqa: E731
        monkeypatch.setattr(linker.shutil, "which", which)
        monkeypatch.setattr(linker, "find_spec", lambda name: object() if zig else None)

    return pretend


def test_a_cross_compiler_is_preferred_to_zig(host) -> None:  # type: ignore[no-untyped-def]
    host("x86_64", ("gcc", "aarch64-linux-gnu-gcc"), zig=True)
    assert find_linker(PI) == Linker(
        ("/usr/bin/aarch64-linux-gnu-gcc",), flags=("-mno-outline-atomics",)
    )


def test_zig_links_for_a_libc_of_a_known_age(host) -> None:  # type: ignore[no-untyped-def]
    host("x86_64", ("gcc",), zig=True)
    assert find_linker(PI).command[-2:] == ("-target", "aarch64-linux-gnu.2.28")
    phone = find_linker(PHONE)
    assert phone.command[-2:] == ("-target", "aarch64-linux-none")
    assert phone.stubs == ("c", "m") and "max-page-size=16384" in phone.flags[0]


def test_a_board_links_for_itself_and_for_a_phone(host) -> None:  # type: ignore[no-untyped-def]
    host("aarch64", ("gcc",))
    assert find_linker(PI) == Linker(("/usr/bin/gcc",), flags=INLINE)
    assert find_linker(PHONE).stubs == ("c", "m")


def test_nothing_installed_names_what_to_install(host) -> None:  # type: ignore[no-untyped-def]
    host("x86_64", ("gcc", "g++"))
    with pytest.raises(DeviceError, match="raspberry-pi-5.*ziglang.*gcc-aarch64"):
        find_linker(PI)
    with pytest.raises(DeviceError, match="no-such-cc.*apt-get install gcc'"):
        find_linker(replace(find_target("x86-64-v3"), linkers=("no-such-cc",)))


def test_stubs_are_named_and_nothing_else_is_linked(tmp_path: Path) -> None:
    """With the compiler of this machine: the origin of the empty libraries does not matter."""
    source = tmp_path / "code.c"
    source.write_text("int one(void) { return 1; }")
    made = tmp_path / "code.so"
    Linker(("gcc",), ("c", "m"))(str(made), [str(source)])
    listed = subprocess.run(["readelf", "-d", str(made)], capture_output=True, text=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in listed.splitlines() if "(NEEDED)" in line]
    assert needed == ["libc.so", "libm.so"]


def test_what_the_compiler_says_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"gcc .*:\n.*nothing\.o"):
        Linker(("gcc",))(str(tmp_path / "a.so"), [str(tmp_path / "nothing.o")])
