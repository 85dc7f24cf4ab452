"""`pip install 'handglass[compile]'` from the wheel on aarch64, and for systems that we lack.

`make test-wheel-arm`. An arm64 Debian runs under QEMU and PRoot: its pip installs the wheels that
the package index has for aarch64, its gcc links what its TVM compiles. The tests are the steps of a
person, in order. For Windows and macOS, pip only resolves what it would install.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from arm_device import CHECKPOINT, PICTURES, Ran
from arm_system import System, arm_system
from arm_tree import PYTHON
from built_wheel import build_wheel, copy_sources

from handglass.targets.deploy.wheels import platform_flags

pytestmark = [pytest.mark.wheel, pytest.mark.network, pytest.mark.slow]

SCHEME = ("--quantization", "w4a8")
QUESTION = ("-p", "What is this picture?", "--image", PICTURES[0])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    copy_sources(tree)
    return build_wheel(tree)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> System:
    """The board, with `handglass[compile]` in a virtual environment in its user's home."""
    found = arm_system(tmp_path_factory.mktemp("home"), CHECKPOINT.parent)
    wheels = found.home / "wheels"
    pip("download", "-q", "-d", wheels, *platform_flags("aarch64", PYTHON), f"{wheel}[compile]")
    expect(found.run("/usr/bin/python3", "-m", "venv", found.home / "venv"))
    install = ("install", "-q", "--no-compile", "--no-index", "--find-links", wheels)
    expect(found.run("python", "-m", "pip", *install, "handglass[compile]"))
    return found


def pip(*arguments: object) -> str:
    """The output of this machine's pip."""
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def expect(ran: Ran) -> str:
    """What a program of the board has printed, without an error."""
    assert ran.code == 0, ran.out[-2000:] + ran.err[-4000:]
    return ran.out


def test_the_wheel_is_installed_with_the_compiler(system: System) -> None:
    script = "import os, tvm, handglass; print(os.uname().machine, handglass.__file__)"
    machine, file = expect(system.run("python", "-c", script)).split()
    assert machine == "aarch64" and file.startswith(str(system.home / "venv"))


def test_doctor_finds_the_compiler_and_a_linker(system: System) -> None:
    found = json.loads(expect(system.run("handglass", "doctor", "--json")))
    values = {check["name"]: (check["ok"], check["value"]) for check in found["checks"]}
    assert found["ok"] and values["apache-tvm"] == (True, "0.27.0.post1")
    assert values["tvm.ir.save_json"] == (True, "works")
    assert values["C compiler"][0] and "gcc" in values["C compiler"][1]
    assert "asimddp" in values["instruction sets"][1].split()


@pytest.fixture(scope="module")
def made(system: System) -> Any:
    """What `quickstart` says there: it compiles the demo model, verifies it and asks it."""
    asked = system.run("handglass", "quickstart", CHECKPOINT, *SCHEME, "--json")
    return json.loads(expect(asked))


def test_what_it_compiles_is_what_the_checkpoint_says(made: Any) -> None:
    assert made["verdict"] == "every stage meets its floor"
    assert made["tokens"] and not made["kept"]


def test_it_answers_as_here(system: System, made: Any, tmp_path: Path) -> None:
    """Sums differ between instruction sets in the last bits; the answers must agree."""
    there = json.loads(
        expect(system.run("handglass", "run", "-m", made["bundle"], *QUESTION, "--json"))
    )
    run_here("compile", "-m", CHECKPOINT, "-o", tmp_path / "here", *SCHEME)
    here = json.loads(run_here("run", "-m", tmp_path / "here", *QUESTION, "--json"))
    assert there["text"] == here["text"] != ""


def run_here(*arguments: object) -> str:
    command = [sys.executable, "-m", "handglass.cli.main", *map(str, arguments)]
    return subprocess.check_output(command, text=True)


# What handglass is built on exists there; it is refused in words (runtime/system/platforms.py).
INSTALLABLE = ("win_amd64", "macosx_11_0_arm64")
# Not even the packages exist.
NOT_INSTALLABLE = ("win_arm64", "macosx_13_0_x86_64")


def resolved(wheel: Path, platform: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Whether pip would install the wheel with its compiler on a platform."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    command += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    command += ["--platform", platform, "--target", str(folder), f"{wheel}[compile]"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("platform", INSTALLABLE)
def test_pip_finds_every_package(wheel: Path, platform: str, tmp_path: Path) -> None:
    assert resolved(wheel, platform, tmp_path).returncode == 0


@pytest.mark.parametrize("platform", NOT_INSTALLABLE)
def test_pip_finds_no_tvm(wheel: Path, platform: str, tmp_path: Path) -> None:
    """Docs say so; if this fails, there are new wheels."""
    found = resolved(wheel, platform, tmp_path)
    assert found.returncode != 0 and "apache-tvm" in found.stderr
