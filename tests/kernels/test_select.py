"""The kernel table holds for every target and every scheme."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from test_integer_matmul import placeholder
from thinned import thinned
from tvm import te, tirx

from handglass.compiler.models import layers
from handglass.compiler.ops.kernels import OPERATORS
from handglass.compiler.ops.padded import round_up
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.schemes.scheme import Scheme, selection_of
from handglass.schedules import RULES_BY_KIND
from handglass.schedules.gpu.limits import is_gpu
from handglass.schedules.isa.integer_isa import INTEGER_ISAS
from handglass.schedules.rule import schedule_function
from handglass.schedules.select import (
    CPU_UNITS,
    GPU_FLOAT32,
    INTEGERS,
    KERNELS,
    TABLE,
    Kernel,
    Units,
    find_units,
    select,
)
from handglass.targets import known_targets

pytestmark = pytest.mark.compiler

N, K = 80, 160
SELECTIONS = [
    pytest.param(selection, id=f"{kind}-{weights}")
    for kind, part in TABLE.items()
    for weights, selection in part.items()
]


def rows_for(kernel: Kernel, scheme: Scheme, m: Any) -> list[te.Tensor]:
    """Activations (m, K) in the form that the kernel reads."""
    depth = round_up(scheme.depth(K), kernel.step)
    if kernel.half_rows:
        return [placeholder((m, depth), "float16", "x")]
    if kernel.activations != INTEGERS:
        return [placeholder((m, K), "float32", "x")]
    codes = scheme.codes
    assert codes is not None
    groups = depth // 32 if codes.bits == 4 else 1
    width = depth // 4 if codes.words else depth
    x = [placeholder((m, width), codes.activation, "x")]
    x.append(placeholder((m, groups), "float32", "x_scale"))
    return [*x, placeholder((m, groups), "int32", "offset")] if codes.zero else x


def function(kernel: Kernel, scheme: Scheme, one_row: bool) -> tirx.PrimFunc:
    rows = rows_for(kernel, scheme, 1 if one_row else tirx.Var("m", "int64"))
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(N, K).items()]
    y = layers.product(scheme, kernel, (N, K), len(rows), *rows, *parts)
    return te.create_prim_func([*rows, *parts, y]).with_attr("global_symbol", "main")


@pytest.mark.parametrize(
    ("name", "scheme", "one_row"), thinned(4, known_targets(), SCHEMES, [True, False])
)
def test_the_rule_that_takes_a_kernel_is_the_one_in_the_table(
    name: str, scheme: str, one_row: bool
) -> None:
    target = tvm.target.Target(known_targets()[name].tvm)
    stored = SCHEMES[scheme].on(find_units(target))
    kernel = selection_of(stored).kernel(one_row)
    taken = schedule_function(
        function(kernel, stored, one_row), known_targets()[name].rules, target
    )
    assert taken is not None and taken[1].name == kernel.rule


@pytest.mark.parametrize("selection", SELECTIONS)
def test_one_layout_serves_one_row_and_many(selection: Any) -> None:
    assert selection.layout in selection.one_row.reads
    assert selection.layout in selection.many_rows.reads


def test_every_kernel_has_an_operator_a_rule_and_a_place_in_the_table() -> None:
    used = {
        kernel.name
        for part in TABLE.values()
        for selection in part.values()
        for kernel in (selection.one_row, selection.many_rows)
    }
    assert used == {kernel.name for kernel in KERNELS} == set(OPERATORS)
    assert len(used) == len(KERNELS), "two kernels of one name"
    rules = {rule.name for rules in RULES_BY_KIND.values() for rule in rules}
    assert {kernel.rule for kernel in KERNELS} <= rules


def test_every_machine_has_a_kernel_for_every_scheme() -> None:
    assert tuple(units.integers for units in CPU_UNITS) == INTEGER_ISAS
    whole = {scheme.weights for scheme in SCHEMES.values()}
    assert set(TABLE["cpu"]) == set(TABLE["gpu"]) == whole
    assert all(set(part) <= whole for part in TABLE.values())


def test_gpus_are_told_by_their_kind_of_device() -> None:
    gpus = {
        name for name in known_targets() if is_gpu(tvm.target.Target(known_targets()[name].tvm))
    }
    assert gpus == {name for name, target in known_targets().items() if target.gpu is not None}
    assert is_gpu(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}))
    assert not is_gpu(tvm.target.Target("llvm"))


@pytest.mark.parametrize(
    ("half", "matrix", "kernels"),
    [
        (False, False, ("gpu float32", "gpu float32", "dp4a")),
        (False, True, ("gpu float32", "gpu float32", "dp4a")),
        (True, False, ("gpu float32", "gpu float16", "dp4a")),
        (True, True, ("gpu float32", "cooperative matrix", "cooperative matrix")),
    ],
)
def test_what_a_gpu_says_it_can_decides(half: bool, matrix: bool, kernels: tuple[str, ...]) -> None:
    settings: dict[str, Any] = {"kind": "vulkan", "supports_16bit_buffer": True}
    settings |= {"supports_float16": half, "supports_cooperative_matrix": matrix}
    settings |= {"mattr": ["coopmat-16x16x16", "subgroup-32"]} if matrix else {}
    units: Units = find_units(tvm.target.Target(settings))
    found = [selection_of(SCHEMES[name].on(units)).many_rows for name in ("bf16", "f16", "w4a8")]
    assert tuple(kernel.name for kernel in found) == kernels


SCHEMES_OF_ONE_ROW = ("w4", "w4a8", "f16", "f32")


@pytest.mark.parametrize(
    ("preset", "kernels"),
    [
        ("rtx-20", ("tensor int4 row", "dp4a row", "float row", "float row")),
        ("rtx-40", ("tensor int4 row", "dp4a row", "float row", "float row")),
        ("vulkan-nvidia", ("gpu float32", "dp4a", "gpu float32", "gpu float32")),
    ],
)
def test_one_row_has_kernels_of_its_own_on_cuda(preset: str, kernels: tuple[str, ...]) -> None:
    units = find_units(tvm.target.Target(known_targets()[preset].tvm))
    found = [selection_of(SCHEMES[name].on(units)).one_row for name in SCHEMES_OF_ONE_ROW]
    assert tuple(kernel.name for kernel in found) == kernels


def test_chips_without_matrix_products_have_the_kernels_of_all_gpus() -> None:
    units = find_units(tvm.target.Target({"kind": "cuda", "arch": "sm_70"}))
    assert select(units, "int4").one_row is GPU_FLOAT32


def test_the_table_is_printed_for_a_target(handglass: Any) -> None:
    lines = handglass("targets", "--kernels", "x86-64-amx").out.splitlines()
    assert lines[0] == "x86-64-amx: integer arithmetic with amx"
    (row,) = (line for line in lines if line.startswith("w8a8"))
    assert "integer dot (cpu-dot)" in row and "amx int8 (cpu-tiles)" in row
    found = handglass("targets", "--kernels", "vulkan-nvidia-mma", "--json").json["kernels"]
    assert [row["scheme"] for row in found] == list(SCHEMES)
    (w4a8,) = (row for row in found if row["scheme"] == "w4a8")
    assert w4a8["one_row"] == {"kernel": "dp4a", "activations": "integers", "rule": "vulkan-dot"}
    assert w4a8["many_rows"]["kernel"] == "cooperative matrix"
    assert handglass("targets", "--kernels", "no-such-target").code != 0


def test_nothing_else_asks_a_tvm_target_whether_it_is_a_gpu() -> None:
    """Compile-time code calls `is_gpu`, and Handglass targets have `Target.gpu`. A code generator
    may check whether a function is for its own target kind."""
    root = Path(layers.__file__).parents[2]
    asks = re.compile(
        r"(?<!inst\.)kind\.name\b|\bkeys\b.*\"gpu\"|\"gpu\" in|get_target_device_type"
    )
    found = {
        str(path.relative_to(root))
        for folder in ("compiler", "schedules", "targets")
        for path in (root / folder).rglob("*.py")
        if asks.search(path.read_text("utf-8"))
    }
    assert found == {"schedules/gpu/limits.py", "targets/codegen/reductions.py"}
