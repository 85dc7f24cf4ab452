"""Kernels that spill although the chip has more registers are compiled again, with a bound."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="the code generator needs the TVM compiler")

import test_tensor_core
from cuda_fixtures import found
from cuda_kernels import kernels_of, scheduled, target_of

from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS
from handglass.targets.codegen.cuda.spills import (
    Resources,
    compile_image,
    resources,
    threads_of,
    tighter,
    with_bounds,
)

KERNEL = 'extern "C" __global__ void __launch_bounds__({threads}) {name}(float* a)'
SOURCE = "".join(
    KERNEL.format(threads=threads, name=name) + end
    for end in (";\n", " { a[threadIdx.x] += 1; }\n")
    for name, threads in (("few", 128), ("few_too", 100), ("many", 1024))
)


def log_of(**used: Resources) -> str:
    """What ptxas prints, with the lines that do not matter here."""
    return "ptxas info    : 0 bytes gmem\n" + "".join(
        f"ptxas info    : Compiling entry function '{name}' for 'sm_120'\n"
        f"ptxas info    : Function properties for {name}\n"
        f"    {kernel.stack} bytes stack frame, {kernel.spilled // 2} bytes spill stores, "
        f"{kernel.spilled - kernel.spilled // 2} bytes spill loads\n"
        f"ptxas info    : Used {kernel.registers} registers, used 1 barriers, 16 bytes smem\n"
        for name, kernel in used.items()
    )


class Scripted(Nvrtc):
    """A compiler that says of each source what a script has for it."""

    def __init__(self, *logs: str) -> None:
        self.logs, self.sources = list(logs), list[str]()

    def compile(self, source: str, architecture: str) -> tuple[bytes, str]:
        self.sources.append(source)
        return source.encode(), self.logs[len(self.sources) - 1]


def first_bounds(name: str, used: Resources) -> dict[str, int]:
    return tighter({}, {name: used}, threads_of(SOURCE))


TIGHT, LOOSE = Resources(80, 16, 76), Resources(80, 0, 0)


class TestBounds:
    def test_the_log_is_read(self) -> None:
        assert resources(log_of(few=TIGHT, many=LOOSE)) == {"few": TIGHT, "many": LOOSE}
        assert resources("") == {}

    @pytest.mark.parametrize(
        ("name", "registers", "bound"),
        [
            ("few", 80, "128, 6"),
            ("few", 81, "128, 5"),  # a warp gets them by 256, which is 88
            ("few", 254, "128, 2"),
            ("few_too", 80, "100, 6"),  # four warps, the last of which is not full
        ],
    )
    def test_as_many_blocks_as_were_reached(self, name: str, registers: int, bound: str) -> None:
        source = with_bounds(SOURCE, first_bounds(name, Resources(registers, 0, 8)))
        assert source.count(f"__launch_bounds__({bound}) {name}(") == 2
        assert source.count("__launch_bounds__(") == SOURCE.count("__launch_bounds__(")

    @pytest.mark.parametrize(
        ("name", "used"),
        [
            ("few", Resources(255, 0, 8)),  # all that a thread may have
            ("many", Resources(64, 0, 8)),  # all that a thread of so many may have
            ("few", Resources(80, 400, 0)),  # an array, which no register could be
            ("other", Resources(80, 0, 8)),
        ],
    )
    def test_nothing_to_gain(self, name: str, used: Resources) -> None:
        assert first_bounds(name, used) == {}

    def test_one_block_less_if_that_was_not_enough(self) -> None:
        still = {"few": Resources(80, 8, 8), "few_too": LOOSE}
        found = tighter({"few": 6, "few_too": 6}, still, threads_of(SOURCE))
        assert found == {"few": 5, "few_too": 6}
        assert tighter({"few": 1}, still, threads_of(SOURCE)) == {"few": 1}


class TestImage:
    def test_the_better_one_is_taken(self) -> None:
        compiler = Scripted(log_of(few=TIGHT), log_of(few=LOOSE))
        image, log = compile_image(compiler, SOURCE, "sm_120")
        assert image.decode() == compiler.sources[1] != SOURCE
        assert resources(log) == {"few": LOOSE}

    def test_one_that_is_no_better_is_not(self) -> None:
        compiler = Scripted(*[log_of(few=TIGHT)] * 3)
        assert compile_image(compiler, SOURCE, "sm_120")[0].decode() == SOURCE
        assert len(compiler.sources) == 3

    def test_the_second_trial_counts(self) -> None:
        better = Resources(80, 8, 8)
        compiler = Scripted(log_of(few=TIGHT), log_of(few=better), log_of(few=LOOSE))
        image, log = compile_image(compiler, SOURCE, "sm_120")
        assert "(128, 5) few(" in image.decode() and resources(log) == {"few": LOOSE}

    def test_once_where_nothing_spills(self) -> None:
        compiler = Scripted(log_of(few=LOOSE, many=LOOSE))
        assert compile_image(compiler, SOURCE, "sm_120")[0].decode() == SOURCE
        assert len(compiler.sources) == 1


HUNGRY = """
extern "C" __global__ void __launch_bounds__(1024) hungry(float* a);
extern "C" __global__ void __launch_bounds__(1024) hungry(float* a) {
  float kept[96];
  #pragma unroll
  for (int i = 0; i < 96; ++i) kept[i] = a[i * 1024 + threadIdx.x];
  __syncthreads();  // all is loaded before anything is stored
  #pragma unroll
  for (int i = 0; i < 96; ++i) a[i * 1024 + threadIdx.x] = kept[95 - i] * kept[(i * 7) % 96];
}
"""


@pytest.mark.parametrize("major", MAJORS)
def test_the_log_of_a_real_kernel(major: int) -> None:
    _, log = compile_image(found(major), HUNGRY, "sm_87")
    used = resources(log)["hungry"]
    assert used.registers == 64 and used.spilled > 0
    assert tighter({}, {"hungry": used}, threads_of(HUNGRY)) == {}


@pytest.mark.parametrize("major", MAJORS)
def test_a_real_kernel_keeps_its_sums_in_registers(major: int) -> None:
    """32 sums of `dp4a`, which CUDA 13 spills for `sm_120` if it is not told how many blocks."""
    target, product = target_of("cuda"), test_tensor_core.product("w8a8", 1152, 4304, "cuda")
    source = kernels_of(scheduled(product.function(), target)[0].mod["main"], target).source
    (used,) = resources(compile_image(found(major), source, "sm_120")[1]).values()
    assert used.memory == 0 and used.registers <= 96
