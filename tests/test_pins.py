"""The pinned versions, and the crashes of other versions.

The crashes are segmentation faults, so each test runs in a child process.
"""

import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

PINS = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"
"""TVM imports torch if it can, which takes two seconds."""

SAVE_JSON = """
import tvm
from tvm import te
a = te.placeholder((4,), "float32", name="a")
func = te.create_prim_func([a, te.compute((4,), lambda i: a[i] + 1.0, name="b")])
assert "float32" in tvm.ir.save_json(func)
"""

TENSORIZE = """
import tvm
from tvm.script import tirx as T

@T.prim_func(s_tir=True)
def description(a: T.handle, b: T.handle) -> None:
    A = T.match_buffer(a, (4,), "float32", offset_factor=1)
    B = T.match_buffer(b, (4,), "float32", offset_factor=1)
    with T.sblock("root"):
        T.reads(A[0:4])
        T.writes(B[0:4])
        for i in range(4):
            with T.sblock("copy"):
                vi = T.axis.remap("S", [i])
                B[vi] = A[vi]

@T.prim_func(s_tir=True)
def vector(a: T.handle, b: T.handle) -> None:
    A = T.match_buffer(a, (4,), "float32", offset_factor=1)
    B = T.match_buffer(b, (4,), "float32", offset_factor=1)
    with T.sblock("root"):
        T.reads(A[0:4])
        T.writes(B[0:4])
        B[T.ramp(0, 1, 4)] = A[T.ramp(0, 1, 4)]

@T.prim_func(s_tir=True)
def copy(A: T.Buffer((16,), "float32"), B: T.Buffer((16,), "float32")) -> None:
    for i in range(16):
        with T.sblock("copy"):
            vi = T.axis.remap("S", [i])
            B[vi] = A[vi]

tvm.s_tir.TensorIntrin.register("handglass_test_copy4", description, vector)
sch = tvm.s_tir.Schedule(tvm.IRModule({"main": copy}))
_, inner = sch.split(sch.get_loops(sch.get_sblock("copy"))[0], [None, 4])
sch.tensorize(inner, "handglass_test_copy4")
assert "T.Ramp(0, 1, 4)" in sch.mod.script()
"""


@pytest.mark.parametrize(("package", "pin"), PINS.items())
def test_installed_versions_are_the_pinned_ones(package: str, pin: str) -> None:
    assert version(package) == pin
    assert any(line.startswith(f"{package}=={pin}") for line in requires("handglass") or [])


@pytest.mark.compiler
@pytest.mark.parametrize("source", [SAVE_JSON, TENSORIZE], ids=["save_json", "tensorize"])
def test_pinned_pair_does_not_crash(source: str, tmp_path: Path) -> None:
    script = tmp_path / "self_test_process.py"  # TVMScript reads its source from a file
    script.write_text(WITHOUT_TORCH + source, "utf-8")
    child = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, f"exit {child.returncode}: {child.stderr[-2000:]}"
