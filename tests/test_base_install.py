"""The runtime on a device: our wheel and the base dependencies, without torch and TVM."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from built_wheel import ROOT, build_wheel, copy_sources

RECORDS, EVIDENCE = "schedules/records", "targets/evidence"
ROOMS = ("cli", "compiler", "schedules", "targets", "runtime")

pytestmark = [pytest.mark.network, pytest.mark.slow]

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import handglass, handglass.runtime
names = [m.name for m in pkgutil.walk_packages(handglass.runtime.__path__, "handglass.runtime.")]
names = [n for n in names if not n.startswith("handglass.runtime.serve.web.")]  # an extra
for name in ["handglass.errors", *names]:
    importlib.import_module(name)
present = [n for n in ("tvm", "torch", "onnx", "transformers") if importlib.util.find_spec(n)]
loaded = [n for n in sys.modules if n.startswith(("handglass.compiler", "handglass.schedules"))]
print(json.dumps({"imported": names, "present": present, "loaded": loaded}))
"""


def run(*command: object) -> str:
    child = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert child.returncode == 0, child.stdout[-2000:] + child.stderr[-4000:]
    return child.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with one more file of records."""
    tree = tmp_path_factory.mktemp("tree")
    copy_sources(tree)
    (tree / RECORDS).mkdir(exist_ok=True)
    (tree / RECORDS / "some-board.jsonl").write_text("{}\n")
    return build_wheel(tree)


@pytest.fixture(scope="module")
def device_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", wheel)
    return python


def test_wheel_contains_every_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ROOMS:
        for path in (ROOT / "handglass" / room).rglob("*.py"):
            assert str(path.relative_to(ROOT)) in names
    strangers = {name for name in names if not name.startswith(("handglass/", "handglass-"))}
    assert not strangers


def test_wheel_contains_the_shipped_records(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".jsonl")}
    ours = {f"handglass/{RECORDS}/{path.name}" for path in (ROOT / RECORDS).glob("*.jsonl")}
    assert names == {f"handglass/{RECORDS}/some-board.jsonl", *ours}


def test_wheel_contains_the_evidence_of_targets(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith(f"handglass/{EVIDENCE}/")}
    ours = {f"handglass/{EVIDENCE}/{path.name}" for path in (ROOT / EVIDENCE).glob("*.json")}
    assert names == ours != set()


def test_runtime_imports_with_base_dependencies_only(device_python: Path) -> None:
    seen = json.loads(run(device_python, "-c", IMPORT_ALL))
    assert "handglass.runtime.answer.model" in seen["imported"]
    assert seen["present"] == []
    assert seen["loaded"] == []


def test_doctor_accepts_a_device_without_compiler(device_python: Path) -> None:
    found = json.loads(run(device_python.with_name("handglass"), "doctor", "--json"))
    values = {check["name"]: check["value"] for check in found["checks"]}
    assert values["apache-tvm"].startswith("not installed")
    assert values["torch"].startswith("not installed")


@pytest.mark.compiler
def test_device_runs_a_bundle_that_carries_its_runtime(
    device_python: Path, small_bundle: Path
) -> None:
    question = ("-m", small_bundle, "-p", "Hello", "-n", 4, "--json")
    there = json.loads(run(device_python.with_name("handglass"), "run", *question))
    here = json.loads(run(sys.executable, "-m", "handglass.cli.main", "run", *question))
    assert there["tokens"] == here["tokens"]
    assert len(there["tokens"]) == 4
