"""A plug-in in C++: building, selection of a library, and machines without a Vulkan driver.

Vulkan's recipe stands for that of every kind.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.devices.plugin import build, library
from handglass.runtime.devices.plugin.build import RECORD, build_plugin, machine_of
from handglass.runtime.devices.vulkan import VULKAN
from handglass.runtime.execution.process import LoadedLibraries
from handglass.runtime.system.sealed_copy import load_copy, read_checked
from handglass.runtime.system.shared_library import SharedLibrary

RECIPE = VULKAN.recipe
LIBRARY = RECIPE.library
ELF = b"\x7fELF" + bytes(14)


def fake_compiler(folder: Path, message: str) -> list[str]:
    program = folder / "compiler"
    program.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    program.chmod(0o755)
    return [str(program)]


def fake_build(folder: Path, **changes: str) -> Path:
    folder.mkdir(parents=True)
    (folder / LIBRARY).write_bytes(ELF + (62).to_bytes(2, "little"))
    record = build._record(RECIPE, ["true"], folder / LIBRARY)
    (folder / RECORD).write_text(json.dumps({**record, **changes}))
    return folder / LIBRARY


def test_no_compiler_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DeviceError, match=r"PATH; install .*libvulkan-dev"):
        build.find_compiler(RECIPE)
    monkeypatch.setenv("CXX", "nowhere-g++ -O1")
    with pytest.raises(DeviceError, match=r"\$CXX = nowhere-g\+\+"):
        build.find_compiler(RECIPE)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("fatal error: vulkan/vulkan.h: No such file or directory", "apt install libvulkan-dev"),
        ("x.cc:1:2: error: this is wrong\nmore", r"x\.cc:1:2: error: this is wrong$"),
    ],
)
def test_a_compiler_that_fails(tmp_path: Path, message: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        build_plugin(RECIPE, fake_compiler(tmp_path, message), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_library_is_taken_only_if_all_agrees(tmp_path: Path) -> None:
    here = library.this_machine()
    same = {"machine": here}
    assert library._fitting(RECIPE, fake_build(tmp_path / "same", **same).parent, here)
    for i, change in enumerate(({"tvm": "0.1"}, {"sources": "0"}, {"sha256": "0"})):
        other = fake_build(tmp_path / str(i), **{**same, **change}).parent
        assert library._fitting(RECIPE, other, here) is None
    assert library._fitting(RECIPE, tmp_path / "same", "vax-linux") is None
    (tmp_path / "same" / RECORD).write_text("{")
    assert library._fitting(RECIPE, tmp_path / "same", here) is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of libraries, which is empty; builds are fake."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "PREBUILT", "none")
    monkeypatch.setattr(library, "find_compiler", lambda recipe: ["true"])
    monkeypatch.setattr(library, "build_plugin", lambda recipe, cxx, output: fake_build(output))
    return tmp_path / "handglass" / "vulkan"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_a_build_is_closed_to_others(cache: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = library.find_library(RECIPE)
    finally:
        os.umask(before)
    for path in (cache, made.path.parent, made.path):
        assert not path.stat().st_mode & 0o022
    assert library._cached(RECIPE, library.this_machine()) == made
    assert load_copy(made.path, read_checked(made), lambda path: Path(path).read_bytes())


@pytest.mark.parametrize("which", ["cache", "folder", "library", "record"])
def test_what_another_user_can_write_is_not_loaded(cache: Path, which: str) -> None:
    made = library.find_library(RECIPE)
    folder = made.path.parent
    places = {"cache": cache, "folder": folder, "library": made.path, "record": folder / RECORD}
    places[which].chmod(0o777)
    assert library._cached(RECIPE, library.this_machine()) is None
    if which == "cache":  # it is ours, so that it can be closed
        assert library.find_library(RECIPE) == made
        return
    with pytest.raises(DeviceError, match="XDG_CACHE_HOME"):
        library.find_library(RECIPE)


def test_a_library_changed_after_its_check_is_not_loaded(cache: Path) -> None:
    made = library.find_library(RECIPE)
    made.path.write_bytes(b"another")
    with pytest.raises(MismatchError, match=LIBRARY):
        LoadedLibraries().load("x", lambda: made)


def test_a_given_library_of_other_versions_is_refused(tmp_path: Path) -> None:
    here = library.this_machine()
    right = SharedLibrary(fake_build(tmp_path / "right", machine=here))
    assert library.find_library(RECIPE, right) == right
    with pytest.raises(DeviceError, match=r"tvm 0\.1"):
        other = fake_build(tmp_path / "a", tvm="0.1", machine=here)
        library.find_library(RECIPE, SharedLibrary(other))
    with pytest.raises(DeviceError, match="machine vax-linux"):
        library.find_library(RECIPE, SharedLibrary(fake_build(tmp_path / "b", machine="vax-linux")))
    with pytest.raises(DeviceError, match=r"c\.so"):
        library.find_library(RECIPE, SharedLibrary(tmp_path / "c.so"))


def test_machine_of_what_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DeviceError, match="text: "):
        machine_of(tmp_path / "text")


@pytest.mark.large
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="needs a cross compiler")
@pytest.mark.skipif(not Path("/usr/include/vulkan").exists(), reason="needs Vulkan's headers")
def test_a_cross_build_needs_headers_alone(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    for name in ("vulkan", "vk_video"):
        (tmp_path / "include" / name).symlink_to(f"/usr/include/{name}")
    compiler = ["aarch64-linux-gnu-g++", f"-I{tmp_path / 'include'}"]
    made = build_plugin(RECIPE, compiler, tmp_path / "out")
    assert machine_of(made) == "aarch64-linux"
    assert json.loads((made.parent / RECORD).read_text())["machine"] == "aarch64-linux"
    assert b"libtvm_runtime.so" not in made.read_bytes()  # not linked


NO_DRIVER = """
from handglass.runtime.devices.vulkan import load_vulkan, vulkan_devices, vulkan_problem
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi
load_vulkan()
load_vulkan()
print(vulkan_devices(), vulkan_problem())
print(import_tvm_ffi().get_global_func("runtime.GetDeviceAttr")(7, 0, 0))
"""


def without(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.vulkan
def test_without_a_driver_there_are_no_devices_and_words_why() -> None:
    done = without(NO_DRIVER, VK_DRIVER_FILES="/nowhere.json", VK_ICD_FILENAMES="/nowhere.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[] no Vulkan driver is installed for any device of this machine\n0\n"


@pytest.mark.vulkan
def test_a_device_that_is_named_and_not_there() -> None:
    done = without(NO_DRIVER, HANDGLASS_VULKAN_DEVICE="no such name")
    assert "HANDGLASS_VULKAN_DEVICE=no such name: no such device; there is 0 = " in done.stderr
    assert "DeviceError" in done.stderr
