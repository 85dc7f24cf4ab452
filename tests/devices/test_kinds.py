"""Only tables and its own folders name a device kind, and a new kind is a file and a table line.

The new one is made up (tests/support/fake_kind.py): the CPU's memory behind a copying placement.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
import fake_kind
from tiny_library import PIECES, TABLE, TINY, build_library, logits_after, manifest
from tvm import relax

from handglass.compiler.lowering.phases import KernelRow
from handglass.compiler.parity.known_answers import known_answers
from handglass.errors import DeviceError, InputError, MismatchError, UsageError
from handglass.runtime.bundle.manifest import TargetEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.devices.device_probe import list_devices
from handglass.runtime.devices.device_select import DeviceRequest, parse_device, requested_device
from handglass.runtime.devices.kinds import CPU, KINDS, device_names
from handglass.runtime.devices.self_test import verdict_file
from handglass.runtime.engine.session import Session
from handglass.runtime.execution.placement import DeviceMemory
from handglass.runtime.execution.tvm_runtime import installed_runtime, start_runtime
from handglass.runtime.remote.devices import device_entries, placement_of
from handglass.runtime.system.shared_library import SharedLibrary
from handglass.schedules import RULES_BY_KIND
from handglass.targets import find_target
from handglass.targets.codegen.kinds import GENERATORS

pytestmark = pytest.mark.compiler

ROOT = Path(__file__).parents[2]
ROOMS = ("compiler", "schedules", "targets", "runtime", "handglass/cli")
OWN = (
    "runtime/devices/{kind}/",
    "targets/codegen/{kind}/",
    "targets/presets/{kind}.py",
    "schedules/{kind}/",
)
"""Places that may name a kind without limit: its folders, and the presets of its targets."""
TABLES = {
    "runtime/devices/kinds.py": 1,
    "targets/codegen/kinds.py": 1,
    "targets/table.py": 2,  # presets are imported and added to the table
    "schedules/__init__.py": 3,  # ... and so are rules and the probe of products
}
"""The tables, and the number of lines of each that may name a kind."""
EXCEPTIONS = {
    "schedules/gpu/": "names of rules, which are hashed into tuning records and must stay",
    "schedules/select.py": "the same names, in the table of kernels",
    "compiler/model_proofs.py": "names of the tests that verified a model",
}


def named(kind: str, source: str) -> set[int]:
    """The lines of code that name the kind; docstrings and comments do not count."""
    return {line for line, word in code_words(source) if kind in word}


@cache
def code_words(source: str) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    texts = (n.value for n in ast.walk(tree) if isinstance(n, ast.Expr))
    explains = {id(value) for value in texts if isinstance(value, ast.Constant)}
    nodes: Iterator[Any] = (node for node in ast.walk(tree) if id(node) not in explains)
    return [(node.lineno, word.lower()) for node in nodes for word in words_of(node)]


def words_of(node: Any) -> Iterator[str]:
    """Names and strings of one node of a syntax tree; every such node has a line number."""
    for field in ("id", "attr", "arg", "name", "asname", "module", "value"):
        word = getattr(node, field, None)
        if isinstance(word, str):
            yield word


@pytest.mark.parametrize("kind", [name for name in KINDS if name != CPU])
def test_only_its_folders_and_the_tables_name_a_kind(kind: str) -> None:
    own = tuple(place.format(kind=kind) for place in OWN)
    found: dict[str, set[int]] = {}
    for path in (p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith((*own, *EXCEPTIONS)):
            continue
        if lines := named(kind, path.read_text("utf-8")):
            found[place] = lines
    too_many = {place: lines for place, lines in found.items() if len(lines) > TABLES.get(place, 0)}
    assert not too_many, "ask a table of kinds instead (docs/adding.md)"
    assert found.keys() == TABLES.keys()


def test_how_a_name_is_found() -> None:
    assert named("vulkan", '"""vulkan"""\nx = 1  # vulkan\n') == set()
    assert named("vulkan", "import a.vulkan\nvulkan()\nx = 'Vulkan'\nx.vulkan\nf(vulkan=1)\n") == {
        *range(1, 6)
    }


def test_the_tables_of_all_rooms_have_the_same_kinds() -> None:
    assert RULES_BY_KIND.keys() == KINDS.keys()
    assert GENERATORS.keys() == KINDS.keys() - {CPU}


WITHOUT = """
import sys
import handglass
from handglass.cli.main import execute
assert execute(["run", "--help"]) == 0
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
Session(Bundle.open(sys.argv[1])).embed([1])
found = [name for name in sys.modules if "vulkan" in name]
assert not found, found
"""


def test_a_kind_is_imported_when_it_is_used(library: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "cpu", library, manifest().target)
    command = [sys.executable, "-c", WITHOUT, str(bundle.path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def write_bundle(path: Path, library: Path, target: TargetEntry) -> Bundle:
    """The tiny model, with a known-answer case for one of its kernels."""
    with BundleWriter(path) as writer:
        writer.add_file("lib.so", library)
        writer.add_file("tokenizer.model", PIECES)
        params = writer.folder / "params-00001.safetensors"
        with TensorWriter(params, [("table", TABLE.shape, TABLE.dtype.name)]) as tensors:
            tensors.write("table", TABLE)
        writer.add_file(params.name)
        rows, legal = [KernelRow("matmul", "products", 1)], relax.transform.LegalizeOps()(TINY)
        for name in known_answers(find_target("host"), rows, legal).write(writer.folder):
            writer.add_file(name)
        return writer.finish(dataclasses.replace(manifest(), target=target))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("build") / "lib.so")


class TestNewKind:
    @pytest.fixture(autouse=True)
    def _line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(KINDS, "fake", fake_kind.KIND)
        paths = [str(ROOT), str(Path(fake_kind.__file__).parent)]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    @pytest.fixture()
    def runtime(self) -> SharedLibrary:
        found = installed_runtime()
        assert found is not None
        library = SharedLibrary(found)
        start_runtime(lambda: library)
        return library

    def make(self, folder: Path, library: Path, **abilities: int) -> Bundle:
        target = dataclasses.replace(
            manifest().target, name="fake", device="fake", abilities=abilities
        )
        return write_bundle(folder / "bundle", library, target)

    def test_it_is_asked_for(self) -> None:
        assert parse_device("fake:0") == DeviceRequest("fake", "0")
        assert device_names().endswith("fake, fake:NUMBER or fake:PART-OF-ITS-NAME")
        with pytest.raises(UsageError, match=r"fake:PART-OF-ITS-NAME$"):
            parse_device("fakes")

    def test_it_is_listed_in_a_process_apart(self, runtime: SharedLibrary) -> None:
        found, problem = list_devices(KINDS["fake"], runtime, None)
        assert found == [fake_kind.fake_device(0), fake_kind.fake_device(1)]
        assert problem is None and str(found[1]) == "fake:1 (Right hand)"

    def test_none_is_there(self, runtime: SharedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(fake_kind.COUNT, "0")
        assert list_devices(KINDS["fake"], runtime, None) == ([], "FAKE_DEVICES is 0")
        words = r"no Fake device .*\(FAKE_DEVICES is 0\): plug one in, or set FAKE_DEVICES"
        with pytest.raises(DeviceError, match=words):
            device_entries("fake", {})

    def test_a_driver_that_crashes(
        self, runtime: SharedLibrary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(fake_kind.COUNT, "crash")
        with pytest.raises(DeviceError, match="crashes .*; pull it out"):
            list_devices(KINDS["fake"], runtime, None)

    def test_a_session_answers(self, library: Path, tmp_path: Path) -> None:
        bundle = self.make(tmp_path, library)
        session = Session(bundle, device="fake:left")
        assert session.device == fake_kind.fake_device(0) and session.on_gpu
        ids = [3, 0, 10]
        assert np.allclose(session.prefill(session.embed(ids), 0), logits_after(ids), atol=1e-5)
        assert np.allclose(session.decode(7, 3), logits_after([*ids, 7]), atol=1e-5)
        assert verdict_file(bundle, fake_kind.fake_device(0)).exists(), "it was tried before"

    def test_one_that_is_not_there(self, library: Path, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match=r"fake:7; available: fake:0 \(Left hand\)"):
            Session(self.make(tmp_path, library), device="fake:7")

    def test_it_lacks_something(self, library: Path, tmp_path: Path) -> None:
        bundle = self.make(tmp_path, library, supports_float16=1, max_threads_per_block=256)
        words = r"cannot run on fake:0 .*supports_float16; max_threads_per_block .*64; .*"
        with pytest.raises(DeviceError, match=rf"{words}\(--target fake asks for least\)"):
            Session(bundle)

    def test_another_kind_is_asked_for(self, library: Path, tmp_path: Path) -> None:
        with pytest.raises(MismatchError, match="Fake .*--device cpu"):
            Session(self.make(tmp_path, library), device="cpu")

    def test_a_handglass_that_does_not_know_it(
        self, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = self.make(tmp_path, library)
        monkeypatch.delitem(KINDS, "fake")
        with pytest.raises(MismatchError, match="'fake' .* cpu, cuda, vulkan;"):
            requested_device(bundle.manifest.target, None, bundle.path)

    def test_doctor_has_a_line_for_everything(self, library: Path, tmp_path: Path) -> None:
        from handglass.cli.device_checks import checks_of_device

        found = checks_of_device("fake:1", self.make(tmp_path, library))
        checks = {check.name: check for check in found}
        assert list(checks) == [
            *("fake:0", "fake:1", "known driver problem", "abilities", "copies", "products")
        ]
        assert checks["fake:1"].value.startswith("Right hand (virtual), hands 1.0, Fake 1.0, ")
        assert "it forgets halves" in checks["known driver problem"].value
        assert checks["copies"].ok and checks["products"].ok

    def test_a_tuner_measures_on_it(self, runtime: SharedLibrary) -> None:
        (left, right) = device_entries("fake", {})
        assert (left["index"], right["name"]) == (0, "Right hand")
        assert left["abilities"] == {"supports_float16": 0, "max_threads_per_block": 64}
        assert isinstance(placement_of("fake:0", {}), DeviceMemory)
        with pytest.raises(InputError, match="'fake:left' .*fake:NUMBER"):
            placement_of("fake:left", {})
