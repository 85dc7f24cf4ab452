"""Code that the target does not support: errors that name the kernel and the capability."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import tirx as T
from tvm.script import tirx as S
from vulkan_elementwise import Compute, elementwise
from vulkan_running import shaders
from vulkan_targets import BARE, PORTABLE

from handglass.errors import InputError

pytestmark = pytest.mark.compiler


def unknown(x: Any) -> Any:
    return T.call_pure_extern("float32", "frobnicate", x)


@pytest.mark.parametrize(
    ("compute", "dtype", "words"),
    [
        (lambda x: x + x, "float16", "supports_16bit_buffer"),
        (lambda x: x + x, "int8", "supports_8bit_buffer"),
        (lambda x: x + x, "int64", "supports_int64"),
        (lambda x: x + x, "float64", "supports_float64"),
        (unknown, "float32", "frobnicate"),
    ],
)
def test_what_a_bare_target_cannot(compute: Compute, dtype: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^vulkan: .*main_kernel.*{words}"):
        shaders(elementwise(compute, [dtype]), BARE)


def test_claims_are_enough() -> None:
    for dtype in ("float16", "int8", "int64"):
        assert shaders(elementwise(lambda x: x + x, [dtype]), PORTABLE)


def test_too_many_threads() -> None:
    with pytest.raises(InputError, match="512 .*max_threads_per_block"):
        shaders(elementwise(lambda x: x, ["float32"], threads=512))


def test_too_much_shared_memory() -> None:
    @S.prim_func(s_tir=True)
    def main(handle: S.handle) -> None:
        a = S.match_buffer(handle, (8192,), "float32")
        for t in S.thread_binding(32, "threadIdx.x"):
            with S.sblock("all"):
                S.reads()
                S.writes(a[0:8192])
                shared = S.alloc_buffer((8192,), "float32", scope="shared")
                for i in range(256):
                    shared[i * 32 + t] = S.float32(1)
                for i in range(256):
                    a[i * 32 + t] = shared[8191 - i * 32 - t]

    with pytest.raises(InputError, match="main_kernel.* 32768 .*max_shared_memory"):
        shaders(main)


def test_the_same_function_gives_the_same_words() -> None:
    made = [shaders(elementwise(T.tanh, ["float16"])) for _ in range(2)]
    assert made[0] == made[1]
