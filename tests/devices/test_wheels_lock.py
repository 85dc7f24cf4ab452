"""The lock file of deployed packages, the selection of wheels, and the calls of pip."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_device import lock_of
from test_pins import PINS

from handglass.errors import DeviceError, MismatchError
from handglass.targets.deploy import wheels
from handglass.targets.deploy.lock_wheels import REQUIREMENTS
from handglass.targets.deploy.packages import from_wheel, ourselves, wanted
from handglass.targets.deploy.wheels import ARCHITECTURES, PYTHONS, fetch, locked_wheels

ALL = [(architecture, python) for architecture in ARCHITECTURES for python in PYTHONS]


@pytest.mark.parametrize(("architecture", "python"), ALL)
def test_every_device_gets_all_that_is_asked_for(architecture: str, python: str) -> None:
    locked = locked_wheels(architecture, python)
    names = {re.split("[=<]", text)[0].lower() for text in REQUIREMENTS}
    assert {wheel.name.lower() for wheel in locked} == names
    assert PINS.items() <= {wheel.name: wheel.version for wheel in locked}.items()
    for wheel in locked:
        assert re.fullmatch("[0-9a-f]{64}", wheel.sha256)
        assert wheel.file.endswith(("-none-any.whl", f"{architecture}.whl"))


def test_an_unknown_python_names_the_known_ones() -> None:
    with pytest.raises(DeviceError, match=r"Python 2\.7 on aarch64: .*3\.10, .*aarch64, x86_64"):
        locked_wheels("aarch64", "2.7")


@pytest.mark.parametrize(
    ("package", "name", "kept"),
    [
        ("apache-tvm", "tvm/lib/libtvm_runtime.so", True),
        ("apache-tvm", "tvm/lib/libtvm_compiler.so", False),
        ("apache-tvm", "tvm/__init__.py", False),
        ("apache-tvm", "apache_tvm-0.27.0.post1.dist-info/METADATA", True),
        ("apache-tvm", "apache_tvm-0.27.0.post1.dist-info/licenses/LICENSE", True),
        ("apache-tvm", "apache_tvm-0.27.0.post1.dist-info/RECORD", False),
        ("apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", True),
        ("apache-tvm-ffi", "tvm_ffi/include/tvm/ffi/c_api.h", False),
        ("numpy", "numpy/_core/numeric.py", True),
        ("numpy", "numpy/_core/tests/test_numeric.py", False),
        ("numpy", "numpy/__init__.pyi", False),
        ("numpy", "numpy.libs/libopenblas.so", True),
    ],
)
def test_what_of_a_wheel_is_kept(package: str, name: str, kept: bool) -> None:
    assert wanted(package, name) is kept


def test_our_own_package_is_without_the_compiler() -> None:
    names = set(ourselves().files)
    assert {
        "handglass/__init__.py",
        "handglass/cli/run.py",
        "handglass/runtime/answer/model.py",
    } <= names
    assert not [name for name in names if name.startswith(("handglass/compiler", "handglass/sch"))]


def test_a_folder_is_named_by_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for number, content in enumerate((b"1", b"1", b"2")):
        lock_of(tmp_path / str(number), monkeypatch, **{"extra.py": content})
        (wheel,) = locked_wheels("aarch64", "3.11")
        folders.append(from_wheel(wheel, tmp_path / str(number) / wheel.file).folder)
    assert folders[0] == folders[1] != folders[2]
    assert folders[0].startswith("extra-1.0-")


class TestPip:
    @pytest.fixture
    def asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """A fake pip that records its command and fails with `says`."""
        seen: dict[str, Any] = {"says": "no network"}
        lock_of(tmp_path / "lock", monkeypatch)

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            file = Path(command[command.index("--requirement") + 1])
            seen.update(command=command, requirements=file.read_text())
            return subprocess.CompletedProcess(command, 1, "", seen["says"])

        monkeypatch.setattr(subprocess, "run", run)
        return seen

    def test_only_binary_wheels_with_their_hashes(
        self, asked: dict[str, Any], tmp_path: Path
    ) -> None:
        locked = locked_wheels("aarch64", "3.11")
        with pytest.raises(DeviceError, match="no network"):
            fetch(locked, "aarch64", "3.11", tmp_path / "cache", None)
        command = asked["command"]
        assert {"download", "--require-hashes", "--no-deps", "--only-binary=:all:"} <= {*command}
        assert command[command.index("--python-version") + 1] == "3.11"
        assert "manylinux_2_28_aarch64" in command
        assert asked["requirements"] == f"extra==1.0 --hash=sha256:{locked[0].sha256}\n"

    def test_another_hash_is_a_mismatch(self, asked: dict[str, Any], tmp_path: Path) -> None:
        asked["says"] = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"
        locked = locked_wheels("aarch64", "3.11")
        with pytest.raises(MismatchError, match="DO NOT MATCH"):
            fetch(locked, "aarch64", "3.11", tmp_path / "cache", None)

    def test_what_is_there_is_not_fetched(self, asked: dict[str, Any], tmp_path: Path) -> None:
        locked = locked_wheels("aarch64", "3.11")
        found = fetch(locked, "aarch64", "3.11", tmp_path / "lock", None)
        assert found == {locked[0]: tmp_path / "lock" / locked[0].file}
        assert "command" not in asked


def test_the_lock_file_is_part_of_the_package() -> None:
    told = json.loads(wheels.LOCK.read_text("utf-8"))
    assert (told["format"], told["version"]) == (wheels.FORMAT, 1)
    settings = Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8")
    assert f'"handglass.targets.deploy" = ["{wheels.LOCK.name}"]' in settings
