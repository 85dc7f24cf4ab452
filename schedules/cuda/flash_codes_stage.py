"""CUDA C++ of a chunk of int8 codes and their scales in shared memory (flash_codes.py).

Panels of keys are copied as they are. Of 16 positions, values of even ones come before those of odd
ones, in rows of 16 bytes each, which are filled up with zeros if heads are no multiple of it.
"""

from __future__ import annotations

STAGE = """
// Copies `size` bytes of 16 to shared memory and fills up with zeros: float32, all of which exist.
static __device__ __forceinline__ void handglass_flash_copy_part(
    unsigned to, const float* from, int size) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
      :: "r"(to), "l"(from), "r"(size) : "memory");
#else
  float4 x = *(const float4*)from;
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
      :: "r"(to), "f"(size > 0 ? x.x : 0.0f), "f"(size > 4 ? x.y : 0.0f),
         "f"(size > 8 ? x.z : 0.0f), "f"(size > 12 ? x.w : 0.0f) : "memory");
#endif
}
// 8 bytes, for rows that are no multiple of 16, or zeros.
static __device__ __forceinline__ void handglass_flash_copy8(
    unsigned to, const void* from, bool is_seen) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
      :: "r"(to), "l"(from), "r"(is_seen ? 8 : 0) : "memory");
#else
  uint2 copied = is_seen ? *(const uint2*)from : make_uint2(0, 0);
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};"
      :: "r"(to), "r"(copied.x), "r"(copied.y) : "memory");
#endif
}
template <int D, int CHUNK, int THREADS>
struct HandglassFlashCodesStage {
  // Bytes: keys, rows of values (an odd number of units of 16), scales of both.
  enum { kPieces = (D + 15) / 16, kRow = 16 * (kPieces | 1), kValues = CHUNK * D };
  // Of 16 positions, the eight odd ones are in other banks than the even ones beside them.
  enum { kOdd = 8 * kRow + 16 * (kPieces % 8), kPanel = kOdd + 8 * kRow };
  enum { kScales = kValues + CHUNK / 16 * kPanel, kBytes = kScales + 8 * CHUNK };
  const signed char *keys, *values;
  const float *key_scales, *value_scales;

  __device__ __forceinline__ HandglassFlashCodesStage(
      int head, int key_positions, int value_positions, const signed char* all_keys,
      const signed char* all_values, const float* scales_of_keys, const float* scales_of_values)
      : keys(all_keys + (long long)head * key_positions * D),
        values(all_values + (long long)head * value_positions * D),
        key_scales(scales_of_keys + (long long)head * key_positions),
        value_scales(scales_of_values + (long long)head * key_positions) {}
  // Keys and values beyond `end` are those of the last panel or position, scales are zeros.
  __device__ __forceinline__ void fetch(unsigned stage, int start, int end) const {
    const signed char *key = keys + (long long)start * D, *value = values + (long long)start * D;
    if (end - start >= CHUNK) fetch<true>(stage, key, value, CHUNK);
    else fetch<false>(stage, key, value, end - start);
    fetch_scales(stage + kScales, start, end - start);
  }
  template <bool WHOLE>
  __device__ __forceinline__ void fetch(
      unsigned stage, const signed char* key, const signed char* value, int count) const {
    constexpr int kSize = D % 16 == 0 ? 16 : 8, kAcrossRow = 16 * kPieces / kSize;
    constexpr int kKeys = CHUNK / 16 * D, kUnits = CHUNK * kAcrossRow;
    constexpr int kRounds = (kUnits + THREADS - 1) / THREADS;
    unsigned thread = threadIdx.x + 32 * threadIdx.y, last = (count + 15) / 16 * D - 1;
    #pragma unroll (WHOLE ? kRounds : 1)
    for (int round = 0; round < kRounds; ++round) {
      unsigned unit = round * THREADS + thread;
      if ((round + 1) * THREADS <= kKeys || unit < kKeys)
        handglass_flash_copy(
            stage + 16 * unit, key + 16 * (WHOLE ? unit : min(unit, last)), true);
      if (kUnits % THREADS != 0 && unit >= kUnits) break;
      unsigned place = unit / kAcrossRow, piece = unit % kAcrossRow;
      unsigned to = stage + kValues + place / 16 * kPanel + (place & 1) * kOdd
          + (place >> 1 & 7) * kRow + kSize * piece;
      if (!WHOLE) place = min(place, count - 1u);
      const signed char* from = value + place * D + kSize * piece;
      if (kSize == 16) handglass_flash_copy(to, from, true);
      else handglass_flash_copy8(to, piece < D / 8 ? from : value, piece < D / 8);
    }
  }
  __device__ __forceinline__ void fetch_scales(unsigned to, int start, int count) const {
    #pragma unroll
    for (int round = 0; round < (CHUNK / 2 + THREADS - 1) / THREADS; ++round) {
      unsigned unit = round * THREADS + threadIdx.x + 32 * threadIdx.y;
      if (unit >= CHUNK / 2) break;
      int place = 4 * (unit % (CHUNK / 4));
      const float* from = (unit < CHUNK / 4 ? key_scales : value_scales) + start;
      int size = 4 * max(0, min(4, count - place));
      handglass_flash_copy_part(to + 16 * unit, from + (size > 0 ? place : 0), size);
    }
  }
};
"""
