"""`handglass doctor BUNDLE`: what prevents a machine from running it, including crashes."""

import errno
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from handglass.cli import bundle_checks, checks
from handglass.cli.checks import Check
from handglass.runtime.system.isolated import IsolatedRun, run_isolated

pytestmark = pytest.mark.compiler

DIE = "import os, signal; os.kill(os.getpid(), signal.{})"


@pytest.fixture(autouse=True)
def compiler_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_cli_doctor.py checks the compiler, which is loaded in a child for it."""
    monkeypatch.setattr(checks, "ffi_pin_check", lambda: Check("tvm.ir.save_json", "works", True))


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may modify."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def change_manifest(bundle: Path, **changes: dict[str, Any]) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    for key, values in changes.items():
        manifest[key].update(values)
    file.write_text(json.dumps(manifest), "utf-8")


def found(result: Any) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in result.json["checks"]}


def test_a_bundle_that_runs(handglass: Any, small_bundle: Path) -> None:
    result = handglass("doctor", small_bundle, "--json")
    assert result.code == 0, result.out
    checks = found(result)
    assert checks["a question"]["value"] == "answered"
    assert checks["required instructions"]["ok"] is checks["memory for the bundle"]["ok"] is True
    assert "in the bundle" in checks["apache-tvm for the bundle"]["value"]


def test_a_floor_that_is_not_met(handglass: Any, bundle: Path) -> None:
    change_manifest(bundle, target={"features": ["avx", "avx1024"]})
    result = handglass("doctor", bundle, "--json")
    checks = found(result)
    assert result.code == 4
    assert "avx1024" in checks["required instructions"]["hint"]
    assert (checks["a question"]["value"], checks["a question"]["ok"]) == ("not run", None)


def test_versions_and_memory(handglass: Any, bundle: Path) -> None:
    change_manifest(bundle, versions={"tvm_ffi": "0.9.0"}, state={"context": 128})
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["state"]["tensors"][0]["shape"] = [1 << 44]
    file.write_text(json.dumps(manifest), "utf-8")
    result = handglass("doctor", bundle, "--json")
    checks = found(result)
    assert result.code == 4
    assert "compiled with 0.9.0" in checks["apache-tvm-ffi for the bundle"]["value"]
    assert "apache-tvm-ffi==0.9.0" in checks["apache-tvm-ffi for the bundle"]["hint"]
    assert checks["memory for the bundle"]["ok"] is False


@pytest.mark.parametrize(
    ("name", "text"),
    [("SIGILL", "instruction"), ("SIGSEGV", "crashed"), ("SIGKILL", "memory")],
)
def test_a_crash_is_a_failed_check(
    name: str, text: str, handglass: Any, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_checks, "ASK", DIE.format(name))
    result = handglass("doctor", small_bundle)
    assert result.code == 4
    assert f"the process ended with {name}" in result.out and text in result.out


def test_the_error_of_the_child_is_reported(
    handglass: Any, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_checks, "ASK", "raise SystemExit('its tokenizer is odd')")
    result = handglass("doctor", small_bundle)
    assert result.code == 4
    assert "a question: its tokenizer is odd" in result.out


@pytest.mark.parametrize("content", [b"changed", None])
def test_a_damaged_bundle_is_an_error(content: bytes | None, handglass: Any, bundle: Path) -> None:
    (bundle / "lib.so").write_bytes(content) if content else (bundle / "lib.so").unlink()
    result = handglass("doctor", bundle)
    assert result.code == 5 and "lib.so" in result.err


class TestWithoutExec:
    """As under qemu-user without binfmt, where a process can fork but not exec."""

    @pytest.fixture(autouse=True)
    def no_exec(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOEXEC, "Exec format error", "python")

        monkeypatch.setattr(subprocess, "run", refuse)

    @pytest.mark.parametrize(
        ("source", "code"),
        [
            ("import sys; sys.exit(int(sys.argv[1]))", 7),
            ("pass", 0),
            ("1 / 0", 1),
            (DIE.format("SIGILL"), -signal.SIGILL),
        ],
    )
    def test_a_fork_has_the_same_exit_code(self, source: str, code: int) -> None:
        assert run_isolated(source, "7").code == code

    def test_only_standard_error_is_returned(self, capfd: pytest.CaptureFixture[str]) -> None:
        ended = run_isolated("import sys; print('out'); print('why', file=sys.stderr)")
        assert ended == IsolatedRun(0, "why\n")
        assert capfd.readouterr() == ("", "")
