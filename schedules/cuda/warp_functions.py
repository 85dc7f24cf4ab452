"""CUDA C++ of what warps do with matrices in shared memory: copies, ldmatrix, mma.sync.

Sources of several kernels of a module may begin with these two parts.
"""

MEMORY = """
#ifndef HANDGLASS_FLASH_MEMORY
#define HANDGLASS_FLASH_MEMORY
// Addresses of shared memory have 32 bits. 16 bytes go there, zeros unless `is_seen`.
static __device__ __forceinline__ void handglass_flash_copy(
    unsigned to, const void* from, bool is_seen) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
      :: "r"(to), "l"(from), "r"(is_seen ? 16 : 0) : "memory");
#else
  uint4 copied = is_seen ? *(const uint4*)from : make_uint4(0, 0, 0, 0);
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
      :: "r"(to), "r"(copied.x), "r"(copied.y), "r"(copied.z), "r"(copied.w) : "memory");
#endif
}
static __device__ __forceinline__ void handglass_flash_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits for all copies but those of the last `N` groups.
template <int N>
static __device__ __forceinline__ void handglass_flash_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
#endif
}
static __device__ __forceinline__ float handglass_flash_float(unsigned at) {
  float x;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(at) : "memory");
  return x;
}
static __device__ __forceinline__ float4 handglass_flash_floats(unsigned at) {
  float4 x;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
      : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(at) : "memory");
  return x;
}
static __device__ __forceinline__ void handglass_flash_keep(unsigned at, float x) {
  asm volatile("st.shared.f32 [%0], %1;" :: "r"(at), "f"(x) : "memory");
}
// Four matrices of 8 x 8, whose rows are at the addresses of eight lanes each; or two of them.
template <bool TRANSPOSED>
static __device__ __forceinline__ void handglass_flash_load4(unsigned* to, unsigned at) {
  if (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at) : "memory");
  }
}
template <bool TRANSPOSED>
static __device__ __forceinline__ void handglass_flash_load2(unsigned* to, unsigned at) {
  if (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
        : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
        : "=r"(to[0]), "=r"(to[1]) : "r"(at) : "memory");
  }
}
#endif
"""
ARITHMETIC = """
#ifndef HANDGLASS_FLASH_ARITHMETIC
#define HANDGLASS_FLASH_ARITHMETIC
typedef __half handglass_half;

// Sums of 16 x 8 += 16 rows times 8 inputs, or 16.
static __device__ __forceinline__ void handglass_flash_multiply8(
    float* c, const unsigned* a, unsigned b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b));
}
static __device__ __forceinline__ void handglass_flash_multiply16(
    float* c, const unsigned* a, unsigned first, unsigned second) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(first), "r"(second));
#else
  handglass_flash_multiply8(c, a, first);
  handglass_flash_multiply8(c, a + 2, second);
#endif
}
static __device__ __forceinline__ unsigned handglass_flash_pair(float low, float high) {
  __half2 pair = __floats2half2_rn(low, high);
  return *(unsigned*)&pair;
}
// 2048 times what a pair of halves lacks of two numbers.
static __device__ __forceinline__ unsigned handglass_flash_rest(
    float low, float high, unsigned pair) {
  float2 known = __half22float2(*(__half2*)&pair);
  return handglass_flash_pair(2048.0f * (low - known.x), 2048.0f * (high - known.y));
}
// Ones in place of the halves that are infinite or no number, zeros in place of others.
static __device__ __forceinline__ unsigned handglass_flash_odd(unsigned pair) {
  unsigned low = (pair & 0x7c00u) == 0x7c00u ? 0x3c00u : 0u;
  return low | ((pair & 0x7c000000u) == 0x7c000000u ? 0x3c000000u : 0u);
}
// Adds zero, or what is no number if one of two halves is not finite.
static __device__ __forceinline__ void handglass_flash_note(__half2& sum, unsigned pair) {
  sum = __hfma2(*(__half2*)&pair, __float2half2_rn(0.0f), sum);
}
#endif
"""
