"""CUDA C of both majors on the PTX emulator: what NVRTC emits is understood, and computes right."""

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="bf16")
from emulator.launch import LATE, Module

from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = pytest.mark.cuda

ROWS = """
extern "C" __global__ void __launch_bounds__(128) rows(const float* x, float* y, half* h, int n) {
  extern __shared__ float kept[];
  __shared__ float part[4];
  const float* row = x + (long long)blockIdx.x * n;
  int t = threadIdx.x;
  float most = -1e30f, sum = 0;
  for (int i = t; i < n; i += 128) most = fmaxf(most, kept[i] = row[i]);
  for (int o = 16; o; o >>= 1) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, o));
  if ((t & 31) == 0) part[t >> 5] = most;
  __syncthreads();
  most = fmaxf(fmaxf(part[0], part[1]), fmaxf(part[2], part[3]));
  __syncthreads();
  for (int i = t; i < n; i += 128) sum += kept[i] = expf(kept[i] - most);
  for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, o);
  if ((t & 31) == 0) part[t >> 5] = sum;
  __syncthreads();
  sum = part[0] + part[1] + part[2] + part[3];
  for (int i = t; i < n; i += 128) {
    y[blockIdx.x * n + i] = kept[i] / sum;
    h[blockIdx.x * n + i] = __float2half(kept[i] / sum) * __float2half(0.5f);
  }
}
"""
FUNCTIONS = """
extern "C" __global__ void functions(const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i];
  float f[] = {sinf(v), cosf(v * 1000.f), tanhf(v), erff(v), powf(fabsf(v), 1.7f), logf(fabsf(v)),
               rsqrtf(fabsf(v)), v / 3.f, roundf(v), fmodf(v, 0.7f)};
  for (int j = 0; j < 10; j++) y[j * n + i] = f[j];
}
extern "C" __global__ void whole(const int* x, const int* by, int* y, long long* z, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = x[i] / by[i] + x[i] % by[i] + __popc(x[i]) + __clz(x[i]) + __brev(x[i]) % 7u;
  z[i] = (long long)x[i] * by[i] / (n + 1) + min(x[i], by[i]);
  switch (i % 6) { case 0: y[i] += 5; break; case 2: y[i] ^= 9; break; case 3: y[i] *= 3; break;
                   case 4: y[i] -= 1; break; case 5: y[i] = -y[i]; }
}
"""
PACKED = """
typedef __nv_bfloat16 bf16;
extern "C" __global__ void packed(const half2* a, const half2* b, half2* y, int n) {
  int i = threadIdx.x;
  y[i] = __hfma2(a[i], b[i], __float2half2_rn(0.25f));
  y[i + n] = __hmax2(a[i], __hneg2(b[i]));
  y[i + 2 * n] = h2exp(a[i]);
}
extern "C" __global__ void bfloats(const bf16* a, const bf16* b, bf16* y) {
  int i = threadIdx.x;
  y[i] = __float2bfloat16(__bfloat162float(a[i]) * 3.f) + __hmul(a[i], b[i]);
}
extern "C" __global__ void dots(const int* a, const int* b, int* y) {
  int i = threadIdx.x, s = __dp4a(a[i], b[i], 7);
  atomicAdd(y, s);
  y[1 + i] = __reduce_max_sync(0xffffffffu, s) + __ballot_sync(0xffffffffu, s > 0);
}
"""
INCLUDES = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"


@pytest.fixture(scope="module")
def kernels(nvrtc: Nvrtc) -> Module:
    ptx, _ = nvrtc.compile(INCLUDES + ROWS + FUNCTIONS + PACKED, "compute_87")
    return Module(ptx.decode())


def test_rows(kernels: Module) -> None:
    x = np.random.default_rng(1).standard_normal((3, 201)).astype("f4") * 4
    y, h = np.zeros_like(x), np.zeros(x.shape, "f2")
    counts = kernels.launch("rows", [3], [128], x, y, h, 201, dynamic=4 * 201, mode=LATE)
    e = np.exp(x.astype("f8") - x.max(1, keepdims=True))
    truth = e / e.sum(1, keepdims=True)
    assert np.abs(y - truth).max() < 1e-6 and np.abs(h - truth / 2).max() < 1e-3
    assert counts.barriers == 9


def erf(x: np.ndarray) -> np.ndarray:
    from math import erf as exact

    return np.array([exact(v) for v in x])


def test_functions(kernels: Module) -> None:
    x = np.random.default_rng(2).standard_normal(300).astype("f4") * 3
    y = np.zeros((10, 300), "f4")
    kernels.launch("functions", [3], [128], x, y, 300)
    v = x.astype("f8")
    thousand = (x * np.float32(1000)).astype("f8")
    truth = [np.sin(v), np.cos(thousand), np.tanh(v), erf(v), np.abs(v) ** np.float32(1.7)]
    truth += [np.log(np.abs(v)), np.abs(v) ** -0.5, v / 3, np.trunc(v + np.copysign(0.5, v))]
    truth += [np.fmod(x, np.float32(0.7))]
    for found, exact in zip(y, truth, strict=True):
        assert np.abs(found - exact).max() <= 4e-7 * max(1, np.abs(exact).max())


def test_integers(kernels: Module) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-(2**30), 2**30, 500).astype("i4")
    by = rng.integers(-900, 900, 500).astype("i4")
    by[by == 0] = 1
    y, z = np.zeros(500, "i4"), np.zeros(500, "i8")
    kernels.launch("whole", [4], [128], x, by, y, z, 500)
    for i, (a, b) in enumerate(zip(x.tolist(), by.tolist(), strict=True)):
        word = a & 0xFFFFFFFF
        q = abs(a) // abs(b) * (1 if a * b >= 0 else -1)
        value = q + a - q * b + word.bit_count() + 32 - word.bit_length()
        value += int(f"{word:032b}"[::-1], 2) % 7
        value = [value + 5, value, value ^ 9, value * 3, value - 1, -value][i % 6]
        assert y[i] == (value + 2**31) % 2**32 - 2**31
        p = abs(a * b) // 501 * (1 if a * b >= 0 else -1)
        assert z[i] == p + min(a, b)


def test_halves(kernels: Module) -> None:
    import ml_dtypes

    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal((32, 2)).astype("f2") for _ in range(2))
    y = np.zeros((3, 32, 2), "f2")
    kernels.launch("packed", [1], [32], a, b, y, 32)
    wide = a.astype("f8"), b.astype("f8")
    assert (y[0] == (wide[0] * wide[1] + 0.25).astype("f2")).all()
    assert (y[1] == np.maximum(a, -b)).all()
    assert np.abs(y[2] / np.exp(wide[0]) - 1).max() < 2e-3
    c, d = (rng.standard_normal(32).astype(ml_dtypes.bfloat16) for _ in range(2))
    out = np.zeros(32, ml_dtypes.bfloat16)
    kernels.launch("bfloats", [1], [32], c, d, out)
    three = (c.astype("f4") * 3).astype(ml_dtypes.bfloat16).astype("f4")
    product = (c.astype("f4") * d.astype("f4")).astype(ml_dtypes.bfloat16).astype("f4")
    assert (out == (three + product).astype(ml_dtypes.bfloat16)).all()


def test_dot_products(kernels: Module) -> None:
    a, b = (np.random.default_rng(s).integers(-128, 128, (32, 4)).astype("i1") for s in (5, 6))
    y = np.zeros(33, "i4")
    kernels.launch("dots", [1], [32], a, b, y)
    s = (a.astype("i4") * b).sum(1) + 7
    ballot = sum(1 << i for i in range(32) if s[i] > 0)
    assert y[0] == s.sum() and (y[1:].view("u4") == (int(s.max()) + ballot) % 2**32).all()
