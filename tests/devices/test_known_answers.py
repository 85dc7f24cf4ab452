"""Known-answer cases of a bundle's kernels: made by the compiler, run on the CPU in a process."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
import tvm
from tvm.script import tirx as T

from handglass.compiler.lowering.kernel_code import export
from handglass.compiler.lowering.phases import KernelRow
from handglass.compiler.parity.known_answers import KnownAnswers, known_answers
from handglass.errors import DeviceError, InputError
from handglass.runtime.bundle.reader import LIBRARY
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.tensors import TensorFile
from handglass.runtime.devices.self_test_process import DeviceHandle, Finding, by_family, try_cases
from handglass.runtime.execution.known_answers import ANSWERS, CASES, COPIES, read_cases
from handglass.runtime.execution.tvm_runtime import installed_runtime
from handglass.runtime.system.shared_library import SharedLibrary
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@T.prim_func(s_tir=True)
def small(x: T.handle, w: T.Buffer((T.int64(24),), "float32"), y: T.handle):  # type: ignore
    s = T.int64()
    a = T.match_buffer(x, (s, T.int64(24)), "float32")
    b = T.match_buffer(y, (s,), "float32")
    for i, k in T.grid(s, T.int64(24)):
        with T.sblock("small"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                b[vi] = T.float32(0)
            b[vi] = b[vi] + a[vi, vk] * w[vk]


@T.prim_func(s_tir=True)
def large(x: T.Buffer((T.int64(4096), T.int64(512)), "float32"), n: T.int64):  # type: ignore
    for i in T.serial(T.int64(4096)):
        with T.sblock("large"):
            vi = T.axis.remap("S", [i])
            x[vi, 0] = T.Cast("float32", n)


@T.prim_func(s_tir=True)
def append(destination: T.handle, row_of: T.handle, pos: T.int64) -> None:
    cache = T.match_buffer(destination, (T.int64(64), T.int64(8)), "float16")
    row = T.match_buffer(row_of, (T.int64(8),), "float16")
    for i in T.serial(T.int64(8)):
        with T.sblock("append"):
            vi = T.axis.remap("S", [i])
            cache[pos, vi] = row[vi]


FUNCTIONS = {"small": small, "large": large, "append": append}
"""A small and a large kernel of one kind, and one that writes to its first argument."""
ROWS = [
    KernelRow("small", "rows", 1),
    KernelRow("large", "rows", 1),
    KernelRow("append", "caches", 1),
]


def module() -> tvm.IRModule:
    return tvm.IRModule({n: f.with_attr("global_symbol", n) for n, f in FUNCTIONS.items()})


@pytest.fixture(scope="module")
def answers() -> KnownAnswers:
    return known_answers(find_target("host"), ROWS, module())


@pytest.fixture(scope="module")
def library() -> bytes:
    return export(module(), find_target("host"))


@pytest.fixture()
def folder(answers: KnownAnswers, library: bytes, tmp_path: Path) -> Path:
    answers.write(tmp_path)
    (tmp_path / LIBRARY).write_bytes(library)
    return tmp_path


def place() -> DeviceHandle:
    runtime = installed_runtime()
    assert runtime is not None
    return DeviceHandle("cpu", 0, SharedLibrary(runtime))


def failed(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.words for finding in findings if not finding.ok}


def test_the_smallest_kernel_of_each_rule_has_an_answer(answers: KnownAnswers) -> None:
    names = [(case.family, case.name) for case in answers.cases]
    assert names == [("rows", "small"), ("caches", "append")]
    assert answers.results["small.2"].shape == (33,) and answers.results["small.2"].std() > 1
    assert set(answers.results) == {"small.2", "append.0"}, "what is only read is not stored"


def test_a_rule_that_goes_two_ways_has_two_answers() -> None:
    """One row and many rows, for which the rule makes different choices."""
    one = KernelRow("large", "rows", 1, choices={"parts": 4})
    many = KernelRow("small", "rows", 1, choices={"columns": 8})
    both = known_answers(find_target("host"), [one, many], module())
    assert {case.name for case in both.cases} == {"large", "small"}


def test_an_answer_is_what_numpy_says(answers: KnownAnswers) -> None:
    from handglass.runtime.execution.known_answers import arrays_of

    x, w, _ = map(np.asarray, arrays_of(answers.cases[0]))
    assert np.allclose(answers.results["small.2"], x @ w, atol=1e-4)
    cache, row, pos = map(np.asarray, arrays_of(answers.cases[1]))
    cache[int(pos)] = row
    assert np.array_equal(answers.results["append.0"], cache)


def test_a_sound_device_passes(folder: Path) -> None:
    findings = try_cases(folder, place())
    assert len(findings) == len(COPIES) + 2
    assert not failed(findings)
    assert list(by_family(findings)) == ["copies", "rows", "caches"]


def spoil(folder: Path, name: str, value: float) -> None:
    file = TensorFile.open(folder / ANSWERS)
    arrays = {n: np.array(file.array(n)) for n in file.names}
    arrays[name].reshape(-1)[:3] = value
    specs = [(n, a.shape, a.dtype.name) for n, a in arrays.items()]
    with TensorWriter(folder / ANSWERS, specs) as writer:
        for n, array in arrays.items():
            writer.write(n, array)


def test_a_wrong_value_is_told_with_its_size(folder: Path) -> None:
    spoil(folder, "small.2", 1000.0)
    words = failed(try_cases(folder, place()))
    assert list(words) == ["small"] and words["small"].startswith("wrong: largest error 1")
    assert "of 1e+03" in words["small"] and "finite" not in words["small"]


def test_a_value_that_is_not_finite_is_wrong(folder: Path) -> None:
    spoil(folder, "append.0", np.nan)
    words = failed(try_cases(folder, place()))
    assert list(words) == ["append"] and words["append"].startswith("wrong:")


def test_a_kernel_that_writes_where_it_should_not_is_wrong(folder: Path) -> None:
    cases = json.loads((folder / CASES).read_text())
    cases["cases"][1]["answers"] = {}  # no argument may change
    (folder / CASES).write_text(json.dumps(cases))
    assert list(failed(try_cases(folder, place()))) == ["append"]


def test_a_missing_function_is_a_finding(folder: Path) -> None:
    cases = json.loads((folder / CASES).read_text())
    cases["cases"][0]["function"] = "gone"
    (folder / CASES).write_text(json.dumps(cases))
    words = failed(try_cases(folder, place()))
    assert words == {"small": "refused: Module has no function 'gone'"}


def test_a_runtime_that_does_not_load_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"no library")
    broken = SharedLibrary(tmp_path / "broken.so")
    with pytest.raises(DeviceError, match=r"broken\.so"):
        try_cases(folder, dataclasses.replace(place(), runtime=broken))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"library": "../lib.so"}, r"library '\.\./lib\.so'"),
        ({"answers": {"7": "x"}}, "item '7'"),
        ({"seed": "1"}, "seed must be int"),
        ({"items": [{"shape": [1]}]}, "item 0: 'dtype' is missing"),
    ],
)
def test_cases_are_read_strictly(folder: Path, change: dict[str, Any], message: str) -> None:
    cases = json.loads((folder / CASES).read_text())
    cases["cases"][0] |= change
    (folder / CASES).write_text(json.dumps(cases))
    with pytest.raises(InputError, match=message):
        read_cases(folder / CASES)
