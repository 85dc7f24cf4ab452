"""`handglass doctor` and `handglass targets`: the checks, and which of them are failures."""

from pathlib import Path
from typing import Any

import pytest

from handglass.cli import checks
from handglass.cli.checks import Check
from handglass.targets import known_targets


@pytest.mark.compiler
def test_this_machine_is_healthy(handglass: Any) -> None:
    result = handglass("doctor", "--json")
    assert result.code == 0, result.out
    found = {check["name"]: check for check in result.json["checks"]}
    assert result.json["ok"] is True
    assert found["tvm.ir.save_json"]["value"] == "works"
    assert found["runtime library"]["ok"] is True
    assert found["apache-tvm-ffi"]["value"] == checks.FFI_PIN


def test_broken_check_is_a_device_error(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Check("C compiler", "none found", False, "install gcc")
    monkeypatch.setattr("handglass.cli.doctor.all_checks", lambda: [broken])
    result = handglass("doctor")
    assert result.code == 4
    assert "BROKEN" in result.out
    assert "C compiler: install gcc" in result.out
    as_json = handglass("doctor", "--json")
    assert (as_json.code, as_json.json["ok"]) == (4, False)


def test_a_crash_of_the_child_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(checks, "has_compiler", lambda: True)
    monkeypatch.setattr(checks, "SAVE_JSON", crash)
    check = checks.ffi_pin_check()
    assert check.ok is False
    assert "exit -11" in check.value
    assert checks.FFI_PIN in check.hint


def test_a_missing_compiler_is_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "has_compiler", lambda: False)
    assert checks.compiler_check().ok is None
    assert checks.ffi_pin_check().ok is None
    assert checks.runtime_library_check(None).ok is None


@pytest.mark.parametrize("compiles", [True, False])
def test_c_compiler_is_needed_to_compile(compiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "has_compiler", lambda: compiles)
    monkeypatch.setattr("shutil.which", lambda name: None)
    check = checks.c_compiler_check()
    assert check.ok is (False if compiles else None)


def test_missing_package_is_a_failure() -> None:
    check = checks.package_check("no-such-package")
    assert check.ok is False
    assert "pip install no-such-package" in check.hint


def test_library_that_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "libtvm_runtime.so"
    path.write_bytes(b"not a library")
    assert checks.runtime_library_check(path).ok is False


def test_targets(handglass: Any) -> None:
    result = handglass("targets")
    assert result.code == 0
    assert all(name in result.out for name in known_targets())
    rows = handglass("targets", "--json").json["targets"]
    assert [row["name"] for row in rows] == list(known_targets())
    assert rows[0]["runs_here"] is True
    assert all(row["runs_here"] == (row["missing_here"] == []) for row in rows)
