"""--device on the command line: messages for missing drivers, missing devices and bad drivers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from fake_gpus import fake_gpu
from tiny_gpu import build_library, write_bundle
from vulkan_running import needs_vulkan

from handglass.errors import DeviceError
from handglass.runtime.devices.self_test import known_of, refuse
from handglass.runtime.devices.self_test_process import Finding
from handglass.runtime.devices.vulkan.quirks import VulkanQuirk

COMMAND = [sys.executable, "-m", "handglass.cli.main"]


def run(bundle: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a new process, since each process searches for a driver only once."""
    command = [*COMMAND, "run", "-m", str(bundle), "-p", "Hello", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    return write_bundle(folder / "bundle", build_library(folder / "lib.so")).path


@needs_vulkan
@pytest.mark.compiler
@pytest.mark.slow
class TestWithoutDriver:
    def test_missing_drivers(self, bundle: Path) -> None:
        done = run(bundle, VK_DRIVER_FILES="/nowhere.json", VK_ICD_FILENAMES="/nowhere.json")
        assert done.returncode == 4
        assert "no Vulkan device" in done.stderr and "driver" in done.stderr

    def test_a_broken_driver_file(self, bundle: Path, tmp_path: Path) -> None:
        icd = tmp_path / "icd.json"
        icd.write_text('{"file_format_version": "1.0.0", "ICD": {"library_path": "/no/such.so"}}')
        done = run(bundle, VK_DRIVER_FILES=str(icd), VK_ICD_FILENAMES=str(icd))
        assert done.returncode == 4 and "no Vulkan device" in done.stderr

    def test_a_missing_device(self, bundle: Path) -> None:
        done = run(bundle, "--device", "vulkan:77", "--json")
        assert done.returncode == 4
        message = json.loads(done.stdout)["error"]["message"]
        assert "vulkan:77" in message and "vulkan:0" in message

    def test_another_kind_of_device(self, bundle: Path) -> None:
        done = run(bundle, "--device", "cpu")
        assert done.returncode == 5 and "Vulkan" in done.stderr

    def test_a_library_that_cannot_be_built(self, bundle: Path, tmp_path: Path) -> None:
        done = run(bundle, XDG_CACHE_HOME=str(tmp_path), CXX="/no/compiler")
        assert done.returncode == 4 and "/no/compiler" in done.stderr

    def test_doctor_has_a_line_per_family(self, handglass: Any, bundle: Path) -> None:
        checks = {c["name"]: c for c in handglass("doctor", bundle, "--json").json["checks"]}
        for family in ("copies", "int8 dot product", "shared memory", "sums across threads"):
            assert checks[family]["ok"] is True


def test_an_unknown_kind_of_device_is_a_usage_error(handglass: Any) -> None:
    result = handglass("doctor", "--device", "gpu")
    assert result.code == 2 and "vulkan:NUMBER" in result.err


def test_a_device_that_fails_is_refused_with_reasons() -> None:
    found = [
        Finding("copies", "3 bytes up and down", True, "exact"),
        Finding("shared memory", "rows", False, "wrong: largest error 3 of 4 (2 dB), 7 values"),
        Finding("vulkan-rows", "norm", False, "crashed: SIGSEGV"),
    ]
    with pytest.raises(DeviceError, match="vulkan-rows") as refused:
        refuse(found, fake_gpu())
    words = str(refused.value)
    assert "shared memory (wrong: largest error 3" in words and "vulkan-rows (crashed" in words
    assert "update the driver" in words and "copies" not in words
    refuse(found[:1], fake_gpu())


def test_a_broken_driver_is_refused_unless_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    row = VulkanQuirk(
        "n", "it sets the house on fire", "run by us", vendor_ids=(0x1234,), broken=True
    )
    monkeypatch.setattr("handglass.runtime.devices.vulkan.quirks.known_quirks", lambda: (row,))
    with pytest.raises(DeviceError, match="sets the house on fire"):
        known_of(fake_gpu())
    monkeypatch.setenv("HANDGLASS_TRUST_DRIVER", "1")
    assert known_of(fake_gpu()) == ()
