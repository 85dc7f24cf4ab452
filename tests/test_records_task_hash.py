"""Which function a record is for: the same in every process, another for any other loops."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

tvm = pytest.importorskip("tvm", reason="hashes functions of the TVM compiler")
from lowered_demo import demo_functions
from tvm import te, tirx
from tvm.s_tir import renew_defs
from tvm.script import tirx as T

from handglass.compiler.records.task_hash import signature, task_hash

pytestmark = pytest.mark.compiler


def scaled(
    rows: int = 1,
    columns: int = 40,
    dtype: str = "float32",
    factor: float = 0.5,
    names: str = "xyij",
    pattern: str = "matmul",
) -> tirx.PrimFunc:
    a, b, i, _ = names
    x = te.placeholder((rows, columns), dtype, name=a)
    body = lambda r, c: x[r, c] * tirx.const(factor, dtype)  # noqa: E731
    y = te.compute((rows, columns), body, name=b, attrs={"handglass.pattern": pattern})
    z = te.compute((rows, columns), lambda *at: y[at] + y[at], name=i)
    return te.create_prim_func([x, z])


SAME = task_hash(scaled(), "cpu-matmul")


def test_64_hexadecimal_digits() -> None:
    assert len(SAME) == 64 and set(SAME) <= set("0123456789abcdef")


def test_names_and_attributes_are_no_part_of_it() -> None:
    func = scaled(names="abcd")
    assert task_hash(func, "cpu-matmul") == SAME
    assert task_hash(renew_defs(func), "cpu-matmul") == SAME
    for key, value in (("global_symbol", "f"), ("op_pattern", 4), ("tirx.noalias", True)):
        func = func.with_attr(key, value)
        assert task_hash(func, "cpu-matmul") == SAME


@pytest.mark.parametrize(
    "other",
    [
        scaled(rows=2),
        scaled(columns=41),
        scaled(dtype="float16"),
        scaled(factor=0.25),
        scaled(pattern="norm"),
    ],
)
def test_other_loops_have_another(other: tirx.PrimFunc) -> None:
    assert task_hash(other, "cpu-matmul") != SAME


def test_another_rule_has_another() -> None:
    assert task_hash(scaled(), "cpu-dot") != SAME


@T.prim_func(s_tir=True)
def serial(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in T.serial(8):
        with T.sblock("y"):
            v = T.axis.spatial(8, i)
            y[v] = x[v]


@T.prim_func(s_tir=True)
def unrolled(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in T.unroll(8):
        with T.sblock("y"):
            v = T.axis.spatial(8, i)
            y[v] = x[v]


@T.prim_func(s_tir=True)
def annotated(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in T.serial(8):
        with T.sblock("y"):
            T.sblock_attr({"handglass.pattern": "view"})
            v = T.axis.spatial(8, i)
            y[v] = x[v]


def test_kinds_of_loops_and_annotations_count() -> None:
    assert len({task_hash(func, "rule") for func in (serial, unrolled, annotated)}) == 3


def test_no_two_functions_of_the_demo_model_are_taken_for_one() -> None:
    functions = demo_functions()
    hashes = {task_hash(func, "rule") for func in functions.values()}
    assert len(hashes) == len(functions) > 40


def test_importing_twice_gives_the_same() -> None:
    first, second = demo_functions(), demo_functions(fresh=True)
    assert first.keys() == second.keys()
    for name, func in first.items():
        assert not func.same_as(second[name])
        assert task_hash(func, "r") == task_hash(second[name], "r")
        assert task_hash(renew_defs(func), "r") == task_hash(func, "r")


PRINT = """
from lowered_demo import demo_functions
from handglass.compiler.records.task_hash import task_hash
for name, func in sorted(demo_functions().items()):
    print(name, task_hash(func, "rule"))
"""


def test_other_processes_find_the_same() -> None:
    here = {name: task_hash(func, "rule") for name, func in demo_functions().items()}
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        told = subprocess.run(
            [sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        assert dict(line.split() for line in told.stdout.splitlines()) == here


def test_cost_of_the_largest() -> None:
    """About 3 ms; a tenth of a second would be felt for 50 kernels."""
    largest = max(demo_functions().values(), key=lambda func: len(func.script()))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        task_hash(largest, "rule")
        seconds.append(time.perf_counter() - start)
    print(f"{min(seconds) * 1e3:.1f} ms")


def test_signature_is_for_people() -> None:
    n = te.var("n", "int64")
    x = te.placeholder((n, 40), "int8", name="x")
    func = te.create_prim_func([x, te.compute((n,), lambda i: x[i, 0].astype("float16"), "y")])
    assert signature(func, "fused_matmul12_add3_gelu") == (
        "fused_matmul_add_gelu: (n, 40) int8, (n,) float16"
    )
    assert signature(scaled(), "a1") == "a (matmul): (1, 40) float32, (1, 40) float32"
