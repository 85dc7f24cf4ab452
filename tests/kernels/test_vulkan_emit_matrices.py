"""Cooperative matrices: their SPIR-V, and the product on a device that supports them."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx
from tvm.script import tirx as T
from vulkan_running import needs_vulkan, run, shaders
from vulkan_targets import COOPMAT, DOT

from handglass.errors import InputError
from handglass.targets.codegen.vulkan.opcodes import VERSION_1_6

pytestmark = pytest.mark.compiler


def product(dtype: str, total: str) -> tirx.PrimFunc:
    """C (16, 24) = A (16, 32) B (32, 24): each 8 x 8 block of C is a workgroup of one subgroup."""

    @T.prim_func(s_tir=True)
    def main(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (16, 32), dtype)
        B = T.match_buffer(b, (32, 24), dtype)
        C = T.match_buffer(c, (16, 24), total)
        for by in T.thread_binding(2, "blockIdx.y"):
            for bx in T.thread_binding(3, "blockIdx.x"):
                for _ in T.thread_binding(8, "threadIdx.x"):
                    with T.sblock("tile"):
                        T.reads(A[0:16, 0:32], B[0:32, 0:24])
                        T.writes(C[0:16, 0:24])
                        left = T.alloc_buffer((64,), dtype, scope="wmma.matrix_a")
                        right = T.alloc_buffer((64,), dtype, scope="wmma.matrix_b")
                        sums = T.alloc_buffer((64,), total, scope="wmma.accumulator")
                        T.evaluate(
                            T.call_extern(
                                "int32", "vk.coopmat_fill", sums.data, 8, 8, tirx.const(0, total)
                            )
                        )
                        for k in range(4):
                            T.evaluate(
                                T.call_extern(
                                    "int32",
                                    "vk.coopmat_load",
                                    left.data,
                                    8,
                                    8,
                                    T.address_of(A[by * 8, k * 8]),
                                    32,
                                    0,
                                )
                            )
                            T.evaluate(
                                T.call_extern(
                                    "int32",
                                    "vk.coopmat_load",
                                    right.data,
                                    8,
                                    8,
                                    T.address_of(B[k * 8, bx * 8]),
                                    24,
                                    0,
                                )
                            )
                            T.evaluate(
                                T.call_extern(
                                    "int32", "vk.coopmat_mma", sums.data, left.data, right.data
                                )
                            )
                        T.evaluate(
                            T.call_extern(
                                "int32",
                                "vk.coopmat_store",
                                sums.data,
                                8,
                                8,
                                T.address_of(C[by * 8, bx * 8]),
                                24,
                                0,
                            )
                        )

    return main


@pytest.mark.parametrize(("dtype", "total"), [("float16", "float32"), ("int8", "int32")])
def test_modules_are_valid_and_of_the_newer_version(dtype: str, total: str) -> None:
    (shader,) = shaders(product(dtype, total), COOPMAT)
    assert shader.words[1] == VERSION_1_6


def test_the_width_that_the_target_names_is_asked_for() -> None:
    (shader,) = shaders(product("float16", "float32"), {**COOPMAT, "mattr": ["subgroup-8"]})
    assert b"handglass.subgroup = 8\0" in np.asarray(shader.words, "<u4").tobytes()
    (shader,) = shaders(product("float16", "float32"), COOPMAT)
    assert b"handglass.subgroup" not in np.asarray(shader.words, "<u4").tobytes()


def test_a_target_without_matrices_says_so() -> None:
    with pytest.raises(InputError, match=r"main_kernel.*supports_cooperative_matrix"):
        shaders(product("float16", "float32"), DOT)


def has_matrices() -> bool:
    from handglass.runtime.devices.vulkan import vulkan_devices

    devices = vulkan_devices()
    return bool(devices) and bool(devices[0].abilities.get("supports_cooperative_matrix"))


@needs_vulkan
@pytest.mark.parametrize(("dtype", "total"), [("float16", "float32"), ("int8", "int32")])
def test_product(dtype: str, total: str) -> None:
    if not has_matrices():
        pytest.skip("vulkan:0 has no cooperative matrices")
    random = np.random.default_rng(2)
    a, b = (random.integers(-9, 9, shape).astype(dtype) for shape in ((16, 32), (32, 24)))
    *_, c = run(product(dtype, total), a, b, np.zeros((16, 24), total), target=COOPMAT)
    np.testing.assert_array_equal(c, a.astype(total) @ b.astype(total))
