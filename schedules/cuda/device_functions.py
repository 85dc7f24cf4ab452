"""CUDA C++ of the intrinsics on fragments (fragments.py).

A lane holds of every matrix four words of 32 bits of an operand, and eight sums. Each function gets
the array of the matrices and the number of a matrix in it. Asm statements that touch memory are
volatile, so that they stay between the barriers; mma.sync is not, so that the compiler may move
loads above it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """A device function: what the generator emits once per module, and its name in calls."""

    name: str
    code: str


COPY = Function(
    "handglass_copy",
    """
static __device__ __forceinline__ void handglass_copy(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
      :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
""",
)
FILL = Function(
    "handglass_fill",
    """
template <class T>
static __device__ __forceinline__ void handglass_fill(T* sums, int at) {
  #pragma unroll
  for (int i = 0; i < 8; ++i) sums[8 * at + i] = 0;
}
""",
)
STORE = Function(
    "handglass_store",
    """
static __device__ __forceinline__ void handglass_store(
    const float* sums, int at, float* memory, int stride) {
  int lane = threadIdx.x & 31;
  const float* c = sums + 8 * at;
  float* to = memory + (lane >> 2) * stride + 2 * (lane & 3);
  #pragma unroll
  for (int i = 0; i < 2; ++i) {
    *(float2*)(to + 8 * i) = make_float2(c[4 * i], c[4 * i + 1]);
    *(float2*)(to + 8 * stride + 8 * i) = make_float2(c[4 * i + 2], c[4 * i + 3]);
  }
}
""",
)


def _ldmatrix(name: str, qualifier: str) -> Function:
    """Load 16 rows of 32 bytes; with ".trans", fragments of the transposed matrix of halves."""
    code = f"""
template <class T>
static __device__ __forceinline__ void {name}(T* held, int at, const T* memory, int stride) {{
  unsigned* to = (unsigned*)held + 4 * at;
  int lane = threadIdx.x & 31;
  const T* row = memory + (lane & 15) * stride + (lane >> 4) * int(16 / sizeof(T));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4{qualifier}.shared.b16 {{%0, %1, %2, %3}}, [%4];"
      : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
      : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}}
"""
    return Function(name, code)


LOAD = _ldmatrix("handglass_load", "")
LOAD_TRANSPOSED = _ldmatrix("handglass_load_transposed", ".trans")
LOAD_HALVED = Function(
    "handglass_load_halved",
    """
template <class T>
static __device__ __forceinline__ void handglass_load_halved(
    T* held, int at, const T* memory, int stride) {
  unsigned* to = (unsigned*)held + 4 * at;
  int lane = threadIdx.x & 31;
  const T* row = memory + ((lane & 7) + (lane >> 4) * 8) * stride
      + (lane >> 3 & 1) * int(16 / sizeof(T));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
      : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}
""",
)
"""16 rows of 32 bytes as two fragments of eight: the right operand, whose inputs are adjacent."""
LOAD_WORDS = Function(
    "handglass_load_words",
    """
static __device__ __forceinline__ void handglass_load_words(
    unsigned* held, int at, const unsigned* memory, int stride) {
  int lane = threadIdx.x & 31;
  const unsigned* from = memory + (lane & 3) * stride + 2 * (lane >> 2);
  *(uint2*)(held + 4 * at) = *(const uint2*)from;
  *(uint2*)(held + 4 * at + 2) = *(const uint2*)(from + 4 * stride);
}
""",
)
"""Words (8 rows of four inputs, 16 columns), which ldmatrix cannot transpose, as a left operand.

A lane loads two adjacent columns: the upper half of the fragment has the even columns, the lower
half the odd ones.
"""
STORE_TRANSPOSED = Function(
    "handglass_store_transposed",
    """
static __device__ __forceinline__ void handglass_store_transposed(
    const int* sums, int at, int* memory, int stride) {
  int lane = threadIdx.x & 31;
  const int* c = sums + 8 * at;
  int* to = memory + 2 * (lane & 3) * stride + 2 * (lane >> 2);
  #pragma unroll
  for (int i = 0; i < 2; ++i) {
    *(int2*)(to + 8 * i * stride) = make_int2(c[4 * i], c[4 * i + 2]);
    *(int2*)(to + (8 * i + 1) * stride) = make_int2(c[4 * i + 1], c[4 * i + 3]);
  }
}
""",
)
"""Sums whose left operand is one of `LOAD_WORDS`."""
DEQUANTIZE = Function(
    "handglass_dequantize",
    """
static __device__ __forceinline__ void handglass_dequantize(
    half* held, int at, int other, const unsigned* words, int stride, const half* scale) {
  const half2 low = __float2half2_rn(-1032.0f), high = __float2half2_rn(-72.0f);
  // threadIdx.z is 0, but ptxas, which does not know it, keeps both numbers in registers: an
  // instruction has one constant of its own, and moving the other one again costs an instruction
  const unsigned lower = 0x64086408u + threadIdx.z, upper = 0x54805480u + threadIdx.z;
  int lane = threadIdx.x & 31;
  uint2 two = *(const uint2*)(words + (lane & 3) * stride + 2 * (lane >> 2));
  half2 scales = *(const half2*)(scale + 2 * (lane >> 2));
  #pragma unroll
  for (int i = 0; i < 2; ++i) {
    half2 s = i ? __high2half2(scales) : __low2half2(scales);
    half2* a = (half2*)held + 4 * at + 2 * i;
    half2* b = (half2*)held + 4 * other + 2 * i;
    #pragma unroll
    for (int j = 0; j < 2; ++j) {
      // codes + 8 of two bytes, in the mantissas of two halves
      unsigned word = (i ? two.y : two.x) >> (8 * j);
      unsigned c = (word & 0x000f000fu) ^ lower, d = (word & 0x00f000f0u) ^ upper;
      a[j] = __hmul2(__hadd2(*(half2*)&c, low), s);   // 1024 + code + 8
      b[j] = __hmul2(__hadd2(*(half2*)&d, high), s);  // 64 + code + 8
    }
  }
}
""",
)
"""32 signed codes of 4 bits of each of 16 columns: fragments of their lower and upper inputs.

A lane has two adjacent columns, of each the codes of one word, and so the inputs of a fragment are
in the order of gpu/nibble_order.py.
"""
STORE_PAIRED = Function(
    "handglass_store_paired",
    """
static __device__ __forceinline__ void handglass_store_paired(
    const float* sums, int at, float* memory, int stride) {
  int lane = threadIdx.x & 31;
  const float* c = sums + 8 * at;
  float* to = memory + (lane >> 2) * stride + 4 * (lane & 3);
  *(float4*)to = make_float4(c[0], c[4], c[1], c[5]);
  *(float4*)(to + 8 * stride) = make_float4(c[2], c[6], c[3], c[7]);
}
""",
)
"""Sums whose right operand is one of `DEQUANTIZE`."""


def _multiply(
    name: str, instruction: str, sums: str, constraint: str, by: tuple[str, str]
) -> Function:
    """Two products of 16 by 8 sums; `by` names the left operand of mma.sync and the right one."""
    whole, halved = by
    results = ", ".join(f'"+{constraint}"(c[{i}])' for i in range(4))
    code = f"""
static __device__ __forceinline__ void {name}(
    {sums}* sums, int at, const void* rows, int rows_at, const void* columns, int columns_at) {{
  const unsigned* a = (const unsigned*){whole} + 4 * {whole}_at;
  const unsigned* b = (const unsigned*){halved} + 4 * {halved}_at;
  #pragma unroll
  for (int i = 0; i < 2; ++i) {{
    {sums}* c = sums + 8 * at + 4 * i;
    asm("mma.sync.aligned.{instruction} {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, "
        "{{%0, %1, %2, %3}};"
        : {results}
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[2 * i]), "r"(b[2 * i + 1]));
  }}
}}
"""
    return Function(name, code)


MULTIPLY_HALVES = _multiply(
    *("handglass_multiply_halves", "m16n8k16.row.col.f32.f16.f16.f32", "float", "f"),
    by=("rows", "columns"),
)
MULTIPLY_BYTES = _multiply(
    *("handglass_multiply_bytes", "m16n8k32.row.col.s32.s8.s8.s32", "int", "r"),
    by=("columns", "rows"),
)
"""The transposed product: both loads of `LOAD_WORDS` then fill adjacent registers of an operand."""
