"""From TVM's functions to images: signatures, reductions by shuffles, selects of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the code generator needs the TVM compiler")
from cuda_kernels import kernels_of
from generated import ENOUGH, source_of
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from handglass.errors import UsageError
from handglass.schedules.rule import BY_TWOS
from handglass.targets.codegen.cuda import build
from handglass.targets.codegen.cuda.build import capabilities_of, compile_images
from handglass.targets.codegen.cuda.enable import enable_compiler
from handglass.targets.codegen.cuda.gpu import DYNAMIC, CudaCapabilities
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.prelude import with_prelude
from handglass.targets.codegen.used import what_is_used

pytestmark = pytest.mark.compiler

GPU = CudaCapabilities(capabilities=(87,))
TARGET = {**GPU.tvm, "host": {"kind": "llvm"}}


def code_of(sch: Schedule) -> str:
    return source_of(sch, TARGET).source


def ptx_of(nvrtc: Nvrtc, source: str) -> str:
    return nvrtc.compile(with_prelude(source), "compute_87")[0].decode()


def row_sums(columns: int, threads: dict[str, int], dtype: str = "float32") -> Schedule:
    """Sums of rows, each by a workgroup whose axis threadIdx.x adds up."""
    a = te.placeholder((5, threads.get("threadIdx.y", 1), columns), dtype, name="a")
    k = te.reduce_axis((0, columns), name="k")
    total = te.compute(a.shape[:2], lambda i, j: te.sum(a[i, j, k], axis=k), name="total")
    sch = Schedule(te.create_prim_func([a, total]))
    i, j, k = sch.get_loops(sch.get_sblock("total"))
    lane = sch.split(k, [None, threads["threadIdx.x"]])[1]
    sch.bind(i, "blockIdx.x")
    sch.bind(j, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")
    return sch


class TestReductions:
    def test_lanes_exchange_with_all_lanes_named(self, any_nvrtc: Nvrtc) -> None:
        source = code_of(row_sums(64, {"threadIdx.y": 4, "threadIdx.x": 16}))
        assert "handglass_lanes_add(" in source and "__activemask" not in source
        ptx = ptx_of(any_nvrtc, source)
        assert ptx.count("shfl.sync.bfly") == 4 and "bar.sync" not in ptx

    @pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
    def test_a_workgroup_by_its_warps(self, any_nvrtc: Nvrtc, dtype: str) -> None:
        source = code_of(row_sums(192, {"threadIdx.x": 96}, dtype))
        assert "handglass_workgroup_add(" in source
        ptx = ptx_of(any_nvrtc, source)
        assert ptx.count("shfl.sync.bfly") == 5 and ptx.count("bar.sync") == 2

    def test_others_keep_the_tree_with_its_barriers(self, any_nvrtc: Nvrtc) -> None:
        source = code_of(row_sums(96, {"threadIdx.y": 3, "threadIdx.x": 48}))
        assert "handglass_" not in source and "shfl" not in source
        assert "bar.sync" in ptx_of(any_nvrtc, source)


class TestSelects:
    def test_one_condition_for_a_vector(self, any_nvrtc: Nvrtc) -> None:
        ptx_of(any_nvrtc, code_of(selected(lambda i, n: n > 3)))

    def test_a_condition_per_lane(self, any_nvrtc: Nvrtc) -> None:
        ptx_of(any_nvrtc, code_of(selected(lambda i, n: i < n)))


def selected(condition: Any) -> Schedule:
    x, n = te.placeholder((64,), "float32", name="x"), te.var("n", "int32")
    value = te.compute((64,), lambda i: tirx.Select(condition(i, n), x[i], 1.0), name="value")
    sch = Schedule(te.create_prim_func([x, n, value]))
    thread, lane = sch.split(sch.get_loops(sch.get_sblock("value"))[0], [None, 4])
    sch.bind(thread, "threadIdx.x")
    sch.vectorize(lane)
    return sch


@pytest.mark.cuda
@pytest.mark.parametrize("rounds", [1, 2, 4, 7])
def test_two_rounds_of_a_loop_become_one(rounds: int) -> None:
    a = te.placeholder((rounds, 32), "float32", name="a")
    k = te.reduce_axis((0, rounds), name="k")
    weighted = te.compute((32,), lambda j: te.sum(a[k, j] * (k % 2 + 2), axis=k), name="sums")
    sch = Schedule(te.create_prim_func([a, weighted]))
    j, k = sch.get_loops("sums")
    sch.bind(j, "threadIdx.x")
    sch.annotate(sch.get_loops(sch.decompose_reduction("sums", k))[0], BY_TWOS, 0)
    sch.annotate(k, BY_TWOS, 1)
    kernels = kernels_of(sch.mod["main"], Target(TARGET))
    x, y = np.random.default_rng(rounds).random((rounds, 32), np.float32), np.zeros(32, np.float32)
    kernels.run(x, y)
    weights = np.arange(rounds) % 2 + 2
    np.testing.assert_allclose(y, weights @ x.astype(np.float64), rtol=1e-6)
    assert ("int pair" in kernels.source) is (rounds > 1)


def test_the_signature_of_a_kernel() -> None:
    (kernel,) = source_of(selected(lambda i, n: i < n), TARGET).kernels
    assert sorted(kernel.arguments) == [(0, 32, 1), (3, 64, 1), (3, 64, 1)]
    assert kernel.tags == ("threadIdx.x",)


@pytest.mark.parametrize("scope", ["shared", "shared.dyn"])
def test_shared_memory_on_demand_is_noted(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(source: str, target: Target) -> dict[str, bytes]:
        raise ValueError(ENOUGH)

    monkeypatch.setattr(build, "compile_images", compiled)
    with what_is_used() as used, pytest.raises(ValueError, match=ENOUGH):
        enable_compiler()
        tirx.build(reversed_in(scope).mod, target=Target(TARGET))
    assert used == ({DYNAMIC: 1} if scope == "shared.dyn" else {})


def reversed_in(scope: str) -> Schedule:
    """64 numbers, which pass through shared memory."""
    x = te.placeholder((64,), "float32", name="x")
    staged = te.compute((64,), lambda i: x[i], name="staged")
    out = te.compute((64,), lambda i: staged[63 - i], name="out")
    sch = Schedule(te.create_prim_func([x, out]))
    sch.set_scope("staged", 0, scope)
    block = sch.add_unit_loop(sch.get_sblock("out"))
    sch.bind(block, "blockIdx.x")
    sch.compute_at("staged", block)
    for name in ("staged", "out"):
        sch.bind(sch.get_loops(sch.get_sblock(name))[-1], "threadIdx.x")
    return sch


def test_one_image_per_chip_and_ptx(any_nvrtc: Nvrtc) -> None:
    target = Target(CudaCapabilities(capabilities=(86, 75)).tvm)
    source = 'extern "C" __global__ void empty() {}'
    assert [*compile_images(source, target)] == ["sm_75", "sm_86", "compute_75"]


def test_the_chips_of_a_target_that_someone_wrote() -> None:
    assert capabilities_of(Target({"kind": "cuda", "arch": "sm_87"})) == [87]
    with pytest.raises(UsageError, match="arch 'sm_90a' must be sm_ and a number"):
        capabilities_of(Target({"kind": "cuda", "arch": "sm_90a"}))
