"""`handglass compile --dry-run`."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from published import PARAMETERS, PUBLISHED

from handglass.errors import UsageError

pytestmark = pytest.mark.compiler
NAME = "MiniCPM-V 4.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[NAME]))
    return tmp_path


def test_text(handglass: Any, folder: Path) -> None:
    result = handglass("compile", "--dry-run", "-m", folder)
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert f"model {NAME} (MiniCPMV)" in lines
    assert f"parameters {PARAMETERS[NAME]:,} in 849 tensors" in lines
    assert "tensors none here: not checked" in lines
    assert "picture 1920x1080 becomes 9 tiles, 576 tokens" in lines
    assert any(line.startswith("memory 5.") for line in lines)


def test_json(handglass: Any, folder: Path) -> None:
    result = handglass("compile", "--dry-run", "-m", folder, "--json", "-c", 512)
    assert result.code == 0
    assert result.json["model"]["parameters"] == PARAMETERS[NAME]
    assert (result.json["context"], result.json["problems"]) == (512, [])


def test_too_large(handglass: Any, folder: Path) -> None:
    flags = ("compile", "--dry-run", "-m", folder, "--target", "raspberry-pi-5")
    result = handglass(*flags)
    assert result.code == 4
    assert "DOES NOT FIT 4.00 GB" in result.out
    assert "but target 'raspberry-pi-5' has 4 GB" in result.err
    result = handglass(*flags, "--json")
    assert result.code == 4
    assert result.json["error"]["exit_code"] == 4
    assert result.json["memory"]["fits"] is False


def test_refused(handglass: Any, folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["MiniCPMV"], "version": "2.7"}')
    result = handglass("compile", "--dry-run", "-m", folder)
    assert (result.code, result.err) == (
        3,
        "error: config.json: MiniCPM-V 2.7 is not supported yet\n",
    )
    assert handglass("compile", "--dry-run", "-m", folder, "--report").code == 2
    result = handglass("compile", "-m", folder)
    assert result.code == 2 and "--output" in result.err


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.large
def test_it_takes_less_than_importing_tvm(folder: Path) -> None:
    """1.3 s where it was written. A ratio holds on a busy machine, too."""
    plan = ("-m", "handglass.cli.main", "compile", "--dry-run", "-m", str(folder))
    assert cpu_seconds(*plan) < cpu_seconds("-c", "import tvm")


@pytest.mark.parametrize("mode", [["--dry-run"], ["-o", "bundle", "--target", "unknown"]])
def test_torch_is_not_imported(folder: Path, mode: list[str]) -> None:
    """Planning and compiling need 190 MB less without it."""
    code = (
        "import sys; from handglass.cli.main import execute; "
        "code = execute(sys.argv[1:]); print('torch' in sys.modules, code)"
    )
    command = [sys.executable, "-c", code, "compile", *mode, "-m", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = 0 if mode == ["--dry-run"] else UsageError.exit_code
    assert done.stdout.splitlines()[-1] == f"False {expected}"
