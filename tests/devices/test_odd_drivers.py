"""Drivers that crash, hang, lie or lack features: a one-line error, exit code 4, no side effects.

Part of `make test-vulkan`; skipped where there is no device.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from odd_driver import Machine, build_driver, new_machine
from tiny_gpu import build_library, write_bundle
from vulkan_running import needs_vulkan

from handglass.compiler.build import compile_model

pytestmark = [pytest.mark.compiler, pytest.mark.slow, needs_vulkan]

IMPATIENT = """
import sys
from functools import partial
from handglass.cli.main import execute
from handglass.runtime.devices import self_test, self_test_process
self_test_process.MOST_DEATHS = 1
self_test.try_cases = partial(self_test_process.try_cases, limit_s=30)
sys.exit(execute(sys.argv[1:]))
"""
"""The command line with a shorter time limit."""
DEMO = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
UNTRIED = {"HANDGLASS_TRUST_DRIVER": "1"}
REFUSED = {
    "crash": r"element-wise float32 \(crashed: SIGSEGV\); .*; \d more kernel families",
    "crashing compiler": r"element-wise float32 \(crashed: SIGSEGV\)",
    "lost": r"float32 \(vulkan: device lost: .*VK_ERROR_DEVICE_LOST while it ran 1 kernels, at the "
    r"end known_0_kernel\)",
    "idle": r"float32 \(wrong: largest error [\d.]+ of [\d.]+ \(0 dB\)\); .*shared memory \(wrong",
    "nan": r"float32 \(wrong: \d+ values are not finite\); .*shared memory \(wrong: ",
    "no memory": r"copies \(vulkan: out of memory: allocation of ",
    "small buffers": r"kernel known_0_kernel: argument 0 .* above the 64 \(maxStorageBufferRange\)",
    "few threads": r"cannot run on vulkan:0 .*: max_threads_per_block .*256, .*32;",
    "no bytes": r"cannot run on vulkan:0 .*: it lacks supports_8bit_buffer;",
    "old device": r"no Vulkan device was found \(no Vulkan driver .* with Vulkan 1\.1\)",
    "crashing list": r"a driver crashes .*VK_DRIVER_FILES",
    "old loader": r"no Vulkan device was found \(the Vulkan loader is of version 1\.0; 1\.1 is",
}
"""The messages of `run`; doctor prints the same, one family of kernels per line."""


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    needs = {"supports_8bit_buffer": True, "max_threads_per_block": 256}
    return write_bundle(folder / "bundle", build_library(folder / "lib.so"), abilities=needs).path


@pytest.fixture()
def machine(drivers: Path, tmp_path: Path) -> Machine:
    return new_machine(drivers, tmp_path)


def ask(bundle: Path) -> tuple[Any, ...]:
    return "run", "-m", bundle, "-p", "Hello", "-n", "2"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles the demo model for any GPU in a given scheme."""
    folder = tmp_path_factory.mktemp("demo")

    def compiled(scheme: str) -> Path:
        compile_model(DEMO, folder / scheme, target="vulkan", quantization=scheme)
        return folder / scheme

    return compiled


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Checks exit code 4 and a one-line error that matches `words`."""
    assert (done.returncode, done.stdout.strip()) == (4, ""), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert re.search(words, line), line


def broken(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The failed checks of doctor, with their hints."""
    assert done.returncode == 4, done.stderr
    checks = json.loads(done.stdout)["checks"]
    return {c["name"]: f"{c['value']} {c['hint']}" for c in checks if c["ok"] is False}


@pytest.mark.parametrize("odd", REFUSED)
def test_run_refuses_it_and_the_next_run_is_as_ever(
    machine: Machine, bundle: Path, odd: str
) -> None:
    refused(machine.run(odd, *ask(bundle)), REFUSED[odd])
    after = machine.run("", *ask(bundle))
    assert after.returncode == 0, after.stderr


def test_a_driver_that_hangs_is_given_up(machine: Machine, bundle: Path) -> None:
    done = machine.run("hang", *ask(bundle), start=("-c", IMPATIENT))
    refused(done, r"element-wise float32 \(hung: .* 30 s\); 4 more kernel families")


def test_what_the_code_does_not_use_a_device_may_lack(
    machine: Machine, demo: Callable[[str], Path]
) -> None:
    path = demo("w4a8")
    asked = ("run", "-m", path, "-p", "What can you do?", "-n", "8", "--json")
    without, usual = (machine.run(odd, *asked) for odd in ("narrow storage", ""))
    assert without.returncode == 0, without.stderr
    assert json.loads(without.stdout)["text"] == json.loads(usual.stdout)["text"] != ""
    checked = machine.run("narrow storage", "doctor", path, "--json")
    assert checked.returncode == 0, checked.stdout


def test_what_the_code_uses_it_must_have(machine: Machine, demo: Callable[[str], Path]) -> None:
    words = r"cannot run on vulkan:0 .*: it lacks supports_float16; "
    refused(machine.run("narrow storage", *ask(demo("f16"))), words)


@pytest.mark.parametrize(
    ("odd", "words", "environment"),
    [
        ("lost", "device lost: vulkan:0 .*VK_ERROR_DEVICE_LOST .*kernel", {}),
        ("endless", r"no answer within 2 s while it ran", {"HANDGLASS_VULKAN_TIMEOUT": "2"}),
        ("no memory", "out of memory: allocation of .*, or compile with .*--kv-cache int8", {}),
    ],
)
def test_one_that_passed_and_fails_later(
    machine: Machine, bundle: Path, odd: str, words: str, environment: dict[str, str]
) -> None:
    refused(machine.run(odd, *ask(bundle), **UNTRIED, **environment), words)


@pytest.mark.parametrize("odd", ["crash", "nan", "few threads"])
def test_doctor_has_a_line_for_what_is_wrong(machine: Machine, bundle: Path, odd: str) -> None:
    found = broken(machine.run(odd, "doctor", bundle, "--device", "vulkan:0", "--json"))
    if odd == "few threads":
        assert "max_threads_per_block" in found["abilities"] and "32" in found["abilities"]
        return
    words = {"crash": "crashed: SIGSEGV", "nan": "values are not finite"}[odd]
    assert words in found["element-wise float32"] and "copies" not in found
    assert "wrong results" in found["vulkan:0"]


def test_doctor_survives_a_driver_that_crashes_at_once(machine: Machine, bundle: Path) -> None:
    found = broken(machine.run("crashing list", "doctor", bundle, "--json"))
    assert "a driver crashes" in found["vulkan"]
