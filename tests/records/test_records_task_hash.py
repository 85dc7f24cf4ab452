"""The task hash of a function: the same in every process, different for different loops."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("tvm", reason="hashes functions of the TVM compiler")
from lowered_demo import demo_functions
from tvm import te, tirx
from tvm.s_tir import Schedule, renew_defs

from handglass.compiler.lowering.task_hash import signature, task_hash

pytestmark = pytest.mark.compiler


def scaled(
    rows: int = 1,
    columns: int = 40,
    dtype: str = "float32",
    factor: float = 0.5,
    names: tuple[str, str, str] = ("x", "y", "z"),
    pattern: str = "matmul",
) -> tirx.PrimFunc:
    first, second, last = names
    x = te.placeholder((rows, columns), dtype, name=first)
    body = lambda r, c: x[r, c] * tirx.const(factor, dtype)  # noqa: E731
    y = te.compute((rows, columns), body, name=second, attrs={"handglass.pattern": pattern})
    z = te.compute((rows, columns), lambda *at: y[at] + y[at], name=last)
    return te.create_prim_func([x, z])


SAME = task_hash(scaled(), "cpu-matmul")


def test_64_hexadecimal_digits() -> None:
    assert len(SAME) == 64 and set(SAME) <= set("0123456789abcdef")


def test_names_and_attributes_are_no_part_of_it() -> None:
    func = scaled(names=("a", "b", "c"))
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


def test_kinds_of_loops_and_annotations_count() -> None:
    def parallel(sch: Schedule) -> None:
        sch.parallel(sch.get_loops(sch.get_sblock("y"))[0])

    def unrolled(sch: Schedule) -> None:
        sch.unroll(sch.get_loops(sch.get_sblock("y"))[0])

    def annotated(sch: Schedule) -> None:
        sch.annotate(sch.get_sblock("y"), "more", 1)

    def annotated_otherwise(sch: Schedule) -> None:
        sch.annotate(sch.get_sblock("y"), "more", 2)

    hashes = {SAME}
    for change in (parallel, unrolled, annotated, annotated_otherwise):
        sch = Schedule(scaled())
        change(sch)
        hashes.add(task_hash(sch.mod["main"], "cpu-matmul"))
    assert len(hashes) == 5


def test_no_two_functions_of_the_demo_model_are_taken_for_one() -> None:
    functions = demo_functions()
    hashes = {task_hash(func, "rule") for func in functions.values()}
    assert len(hashes) == len(functions) > 40


def test_importing_twice_gives_the_same() -> None:
    first, second = demo_functions(), demo_functions(fresh=True)
    assert first.keys() == second.keys()
    shared = [name for name, func in first.items() if func.same_as(second[name])]
    assert len(shared) < 10, "only cache kernels, which are parsed once per process"
    for name, func in first.items():
        assert task_hash(func, "r") == task_hash(second[name], "r")
        assert task_hash(renew_defs(func), "r") == task_hash(func, "r")


PRINT = """
import sys; sys.modules["torch"] = None  # TVM imports it if it can, which takes two seconds
from lowered_demo import demo_functions
from handglass.compiler.lowering.task_hash import task_hash
for name, func in sorted(demo_functions().items()):
    print(name, task_hash(func, "rule"))
"""


@pytest.mark.slow
def test_other_processes_find_the_same() -> None:
    expected = {name: task_hash(func, "rule") for name, func in demo_functions().items()}
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", PRINT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == expected


def test_signature_is_for_people() -> None:
    n = te.var("n", "int64")
    x = te.placeholder((n, 40), "int8", name="x")
    func = te.create_prim_func([x, te.compute((n,), lambda i: x[i, 0].astype("float16"), "y")])
    assert signature(func, "fused_matmul12_add3_gelu") == (
        "fused_matmul_add_gelu: (n, 40) int8, (n,) float16"
    )
    assert signature(scaled(), "a1") == "a (matmul): (1, 40) float32, (1, 40) float32"
