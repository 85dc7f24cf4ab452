"""Small PTX kernels, their modules, and calls of them on the emulated driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plugin_calls import PluginCalls, handle

from handglass.runtime.devices.cuda import CUDA
from handglass.targets.codegen.cuda.module_bytes import Kernel, pack_module

CALLS = PluginCalls(CUDA)
POINTER, FLOAT, INT = (3, 64, 1), (2, 32, 1), (0, 32, 1)
CUBIN = b"\x7fELF cubin"
THREADS = 64
GRID_AND_BLOCK = ("blockIdx.x", "threadIdx.x")
HEAD = """.version 8.0
.target sm_80
.address_size 64
"""
INDEX = """mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;"""
REGISTERS = """.reg .pred %p<2>;
    .reg .f32 %f<5>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;"""

AXPY = f"""
.visible .entry axpy(.param .u64 axpy_0, .param .u64 axpy_1, .param .f32 axpy_2, .param .u32 axpy_3)
{{
    {REGISTERS}
    ld.param.u64 %rd1, [axpy_0];
    ld.param.u64 %rd2, [axpy_1];
    ld.param.f32 %f1, [axpy_2];
    ld.param.u32 %r5, [axpy_3];
    {INDEX}
    setp.ge.s32 %p1, %r4, %r5;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.s32 %rd5, %r4, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    fma.rn.f32 %f4, %f1, %f2, %f3;
    st.global.f32 [%rd7], %f4;
DONE:
    ret;
}}
"""
"""y += a x, for n elements."""

REVERSED = f"""
.extern .shared .align 16 .b8 room[];
.visible .entry reversed(.param .u64 reversed_0, .param .u32 reversed_1)
{{
    {REGISTERS}
    ld.param.u64 %rd1, [reversed_0];
    ld.param.u32 %r5, [reversed_1];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, %tid.x;
    mul.wide.s32 %rd3, %r1, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    mov.u32 %r2, room;
    shl.b32 %r3, %r1, 2;
    add.s32 %r4, %r2, %r3;
    add.s32 %r4, %r4, %r5;
    st.shared.f32 [%r4], %f1;
    bar.sync 0;
    xor.b32 %r6, %r3, {4 * (THREADS - 1)};
    add.s32 %r7, %r2, %r6;
    add.s32 %r7, %r7, %r5;
    ld.shared.f32 %f2, [%r7];
    st.global.f32 [%rd4], %f2;
    ret;
}}
"""
"""Reverses 64 elements through shared memory, at an offset in it."""


APPEND = f"""
.visible .entry append(.param .u64 append_0, .param .u64 append_1, .param .u32 append_2,
                       .param .u32 append_3, .param .u64 append_4)
{{
    {REGISTERS}
    .reg .b64 %c<3>;
    ld.param.u64 %rd1, [append_0];
    ld.param.u64 %rd2, [append_1];
    ld.param.u32 %r5, [append_2];
    ld.param.u32 %r6, [append_3];
    ld.param.u64 %c1, [append_4];
    setp.eq.s64 %p1, %c1, 0;
    @%p1 bra PASSED;
    cvta.to.global.u64 %c2, %c1;
    ld.global.u32 %r5, [%c2];
    ld.global.u32 %r6, [%c2+8];
PASSED:
    {INDEX}
    setp.ge.s32 %p1, %r4, %r5;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.s32 %rd5, %r4, 4;
    add.s64 %rd6, %rd3, %rd5;
    add.s32 %r7, %r4, %r6;
    mul.wide.s32 %rd5, %r7, 4;
    add.s64 %rd7, %rd4, %rd5;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd7];
    add.rn.f32 %f4, %f2, %f3;
    st.global.f32 [%rd7], %f4;
DONE:
    ret;
}}
"""
"""y[pos + i] += x[i] for n elements; n and pos are read from cells, if there are any."""


def ptx(*kernels: str) -> bytes:
    return (HEAD + "".join(kernels)).encode() + b"\0"


AXPY_KERNEL = Kernel("axpy", (POINTER, POINTER, FLOAT, INT), GRID_AND_BLOCK)
REVERSED_KERNEL = Kernel("reversed", (POINTER, INT), ("threadIdx.x", "tirx.use_dyn_shared_memory"))

APPEND_KERNEL = Kernel("append", (POINTER, POINTER, INT, INT), GRID_AND_BLOCK, cells=(2, 3))


def module(
    kernels: Sequence[Kernel] = (AXPY_KERNEL,), images: Mapping[str, bytes] | None = None
) -> Any:
    """A loaded module: by default axpy, as a cubin that the driver rejects and as PTX."""
    images = images or {"sm_80": CUBIN, "compute_80": ptx(AXPY, REVERSED, APPEND)}
    return CALLS.load(pack_module(kernels, images))


def axpy(kernel: Any, x: Any, y: Any, a: float, n: int) -> None:
    kernel(handle(x), handle(y), a, n, -(-n // THREADS), THREADS)


def append(kernel: Any, x: Any, y: Any, n: int, pos: int, groups: int = 1) -> None:
    kernel(handle(x), handle(y), n, pos, groups, THREADS)


def numbers(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)
