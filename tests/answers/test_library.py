"""Locating the runtime library and checking the machine, without loading a bundle."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
from written_bundle import FILES, MANIFEST

from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.requirements import check_target
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.engine import library
from handglass.runtime.engine.library import find_runtime
from handglass.runtime.execution import tvm_runtime
from handglass.runtime.execution.process import LoadedLibraries
from handglass.runtime.execution.tvm_runtime import import_tvm_ffi
from handglass.runtime.system import machine
from handglass.runtime.system.machine import (
    cpu_flags,
    physical_cores,
    this_machine,
    thread_count,
    usable_cpus,
)
from handglass.runtime.system.shared_library import SharedLibrary

V3 = TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2", "fma", "f16c"))
ARM = TargetEntry("phone", "aarch64-linux-gnu", "cortex-a76", ("asimddp",))


def test_a_machine_with_all_features_is_accepted() -> None:
    check_target(V3, "x86_64", frozenset(["sse2", "avx2", "fma", "f16c"]))
    check_target(V3, "AMD64", frozenset(V3.features))
    check_target(ARM, "arm64", frozenset(["asimd", "asimddp"]))


def test_missing_instructions_are_all_named() -> None:
    with pytest.raises(DeviceError, match=r"x86-64-v3 \(target host\).* avx2, f16c;"):
        check_target(V3, "x86_64", frozenset(["fma", "avx"]))
    with pytest.raises(DeviceError, match="avx2, fma, f16c"):
        check_target(V3, "x86_64", frozenset())


@pytest.mark.parametrize(("target", "architecture"), [(V3, "aarch64"), (ARM, "x86_64")])
def test_another_architecture_is_refused(target: TargetEntry, architecture: str) -> None:
    everything = frozenset([*V3.features, *ARM.features])
    with pytest.raises(DeviceError, match=f"target {target.name}.* {architecture};"):
        check_target(target, architecture, everything)


CPUINFO = """processor\t: 0
flags\t\t: fpu sse2 avx2 fma avx512f

processor\t: 1
flags\t\t: fpu sse2 avx2 fma
vmx flags\t: vnmi
"""


def test_flags_are_those_of_every_core() -> None:
    assert cpu_flags(CPUINFO) == {"fpu", "sse2", "avx2", "fma"}
    assert cpu_flags("Features\t: fp asimd\nFeatures\t: fp asimd asimddp\n") == {"fp", "asimd"}
    assert cpu_flags("") == frozenset()
    assert cpu_flags("flags\t\t:\nflags\t\t: a b\n") == frozenset()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
def test_this_machine_has_flags() -> None:
    architecture, flags = this_machine()
    assert architecture and len(flags) > 3


def test_hyperthreads_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert physical_cores({0, 2}, tmp_path) == 1
    assert physical_cores({0, 1}, tmp_path) == 2
    assert physical_cores({0, 7, 8}, tmp_path) == 3  # no topology files


def test_threads_are_given_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = usable_cpus()
    monkeypatch.delenv("TVM_NUM_THREADS", raising=False)
    assert 1 <= thread_count(None) <= len(cpus)
    assert thread_count(1) == 1
    assert thread_count(len(cpus)) == len(cpus)
    with pytest.raises(UsageError, match=f"threads={len(cpus) + 1} .* {len(cpus)},"):
        thread_count(len(cpus) + 1)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    assert thread_count(None) == 1
    monkeypatch.setenv("TVM_NUM_THREADS", " ")
    assert 1 <= thread_count(None) <= len(cpus)


@pytest.mark.parametrize("value", ["0", "-1", "many", "\u00b2", "1.5", "1e9", "100000", "9" * 5000])
def test_an_impossible_variable_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TVM_NUM_THREADS", value)
    with pytest.raises(UsageError, match=re.escape(f"TVM_NUM_THREADS='{value[:3]}")):
        thread_count(None)


def test_affinity_limits_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TVM_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)
    assert thread_count(None) == 1
    with pytest.raises(UsageError, match="threads=2 .* 1,"):
        thread_count(2)


def test_without_affinity_every_cpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cpus() == {0, 1, 2}
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == {0}


def bundle(path: Path, files: dict[str, bytes], **versions: str) -> Bundle:
    with BundleWriter(path) as writer:
        for name, data in files.items():
            writer.add_file(name, data)
        return writer.finish(dataclasses.replace(MANIFEST, versions=versions))


def test_the_runtime_of_the_bundle_comes_first(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", FILES | {"libtvm_runtime.so": b"runtime"})
    sha256 = hashlib.sha256(b"runtime").hexdigest()
    assert find_runtime(made) == (tmp_path / "b" / "libtvm_runtime.so", sha256)


def test_an_unlisted_runtime_in_the_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bundle(tmp_path / "b", FILES)
    (tmp_path / "b" / "libtvm_runtime.so").write_bytes(b"stranger")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"libtvm_runtime\.so"):
        find_runtime(made)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str) -> None:
    spec = ModuleSpec("tvm", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)


def test_an_installed_runtime_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tvm" / "lib").mkdir(parents=True)
    (tmp_path / "tvm" / "lib" / "libtvm_runtime.so").write_bytes(b"runtime")
    (tmp_path / "tvm" / "lib" / "libtvm_compiler.so").write_bytes(b"compiler")
    (tmp_path / "tvm" / "__init__.py").write_text("raise SystemExit('imported')")
    install(monkeypatch, tmp_path / "tvm", "0.27.3")
    made = bundle(tmp_path / "b", FILES, tvm="0.27.0.post1")
    assert find_runtime(made) == (tmp_path / "tvm" / "lib" / "libtvm_runtime.so", "")
    install(monkeypatch, tmp_path / "tvm", "0.28.0")
    with pytest.raises(MismatchError, match=r"tvm 0\.27\.0\.post1, .*0\.28\.0"):
        find_runtime(made)


def test_the_compiler_library_is_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tvm" / "lib").mkdir(parents=True)
    (tmp_path / "tvm" / "lib" / "libtvm_compiler.so").write_bytes(b"compiler")
    install(monkeypatch, tmp_path / "tvm", "0.27.0")
    with pytest.raises(DeviceError, match=r"libtvm_runtime\.so"):
        find_runtime(bundle(tmp_path / "b", FILES))


def test_a_runtime_that_is_none_is_a_device_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm_runtime, "PROCESS", LoadedLibraries())
    monkeypatch.delitem(sys.modules, "tvm", raising=False)
    path = tmp_path / "libtvm_runtime.so"
    path.write_bytes(b"not an ELF file")
    with pytest.raises(DeviceError, match=r"libtvm_runtime\.so: cannot be loaded"):
        tvm_runtime.start_runtime(lambda: SharedLibrary(path))


def test_a_tvm_that_is_there_is_used_if_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "find_runtime", lambda bundle: pytest.fail("looked for another"))
    monkeypatch.setitem(sys.modules, "tvm", SimpleNamespace(__version__="0.27.9"))  # type: ignore
    library._start_runtime(bundle(tmp_path / "a", FILES, tvm="0.27.0"))
    with pytest.raises(MismatchError, match=r"tvm 0\.26\.0, .*0\.27\.9"):
        library._start_runtime(bundle(tmp_path / "b", FILES, tvm="0.26.0"))


def forbid_tvm_ffi(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Makes the import of tvm_ffi fail; the list records `sys.modules["torch"]` at that time."""
    seen: list[object] = []

    class Finder:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "tvm_ffi":
                seen.append(sys.modules.get("torch", "absent"))
                raise ImportError("this is a test")

    monkeypatch.delitem(sys.modules, "tvm_ffi", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder()])
    return seen


def test_torch_is_hidden_only_while_tvm_ffi_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = forbid_tvm_ffi(monkeypatch)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(DeviceError, match="this is a test.*install apache-tvm-ffi==0.1.14.post1"):
        import_tvm_ffi()
    assert seen == [None] and "torch" not in sys.modules


def test_a_torch_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = object()
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "tvm_ffi", machine)  # any module
    assert import_tvm_ffi() is machine
    seen = forbid_tvm_ffi(monkeypatch)
    with pytest.raises(DeviceError):
        import_tvm_ffi()
    assert seen == [torch] and sys.modules["torch"] is torch


def test_a_library_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tvm_ffi never unloads a library, so loading the same content twice must not load a copy."""
    monkeypatch.setattr(library.POOL, "attach", lambda module: True)
    monkeypatch.setattr(library, "PROCESS", LoadedLibraries())
    loaded: list[bytes] = []

    def load(path: str, kind: str) -> int:
        loaded.append(Path(path).read_bytes())
        return len(loaded)

    functions = {"ffi.Module.load_from_file.so": load, "ffi.ModuleGlobalsAdd": lambda module: None}
    ffi, path = SimpleNamespace(get_global_func=functions.get), tmp_path / "lib.so"

    def given(content: bytes) -> SharedLibrary:
        path.write_bytes(content)
        return SharedLibrary(path, hashlib.sha256(content).hexdigest())

    one = given(b"one")
    assert [library._open_library(ffi, one) for _ in range(3)] == [1, 1, 1]
    two = given(b"two")  # another library under the same name
    assert library._open_library(ffi, two) == 2
    assert library._open_library(ffi, one) == 1
    assert loaded == [b"one", b"two"]
