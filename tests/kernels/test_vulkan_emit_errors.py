"""What cannot be emitted, or was not claimed: errors that name the kernel and what it needs."""

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
        (lambda x: x + x, "float16", "16-bit buffers, which the target does not claim"),
        (lambda x: x + x, "int8", "supports_8bit_buffer is not set"),
        (lambda x: x + x, "int64", "supports_int64 is not set"),
        (lambda x: x + x, "float64", "supports_float64 is not set"),
        (unknown, "float32", "external function frobnicate is unknown"),
    ],
)
def test_what_a_bare_target_cannot(compute: Compute, dtype: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^vulkan: kernel main_kernel: .*{words}"):
        shaders(elementwise(compute, [dtype]), BARE)


def test_claims_are_enough() -> None:
    for dtype in ("float16", "int8", "int64"):
        assert shaders(elementwise(lambda x: x + x, [dtype]), PORTABLE)


def test_too_many_threads() -> None:
    with pytest.raises(InputError, match="512 x 1 x 1 = 512 threads, but max_threads_per_block"):
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

    with pytest.raises(InputError, match="main_kernel: 32768 bytes of shared memory, but max_sh"):
        shaders(main)


def test_the_same_function_gives_the_same_words() -> None:
    made = [shaders(elementwise(T.tanh, ["float16"])) for _ in range(2)]
    assert made[0] == made[1]
