"""CUDA C++ of one row times 4-bit weights on tensor cores (one_row.py).

A warp multiplies a group of 32 inputs by eight panels. Each quad of lanes has a panel: it loads 64
adjacent bytes at a time, a lane 16 of them, which are one input and its neighbour 16 further on, of
all 16 outputs. A product (`mma.m16n8k16`: 16 rows by 8 columns) takes one word of each lane, of
four outputs: its rows are outputs, two of each quad, so all of them are different.

Its columns are the row of activations twice, as float16 and as what float16 loses, and only in the
two columns of the lanes that shall keep the sums of this word; elsewhere they are zero. So the
words of a lane add up to the same registers without disturbing each other, and each of the four
lanes of a quad ends up with four outputs: nothing is left to exchange.
"""

from __future__ import annotations

from .device_functions import Function

_SPLIT = """
// A finite number stays finite as float16; others stay what they are.
static __device__ __forceinline__ float handglass_bounded(float value, float most) {
  float bounded = fminf(fmaxf(value, -most), most);
  return fabsf(value) < __int_as_float(0x7f800000) ? bounded : value;
}
// The nearest float16 and, in the upper half, 2048 times what it lacks: 22 bits of a number.
static __device__ __forceinline__ unsigned handglass_split(float value) {
  half nearest = __float2half_rn(handglass_bounded(value, 65504.0f));
  float lacking = handglass_bounded(value - __half2float(nearest), 65504.0f / 2048.0f);
  half rest = __float2half_rn(2048.0f * lacking);
  return __half_as_ushort(nearest) | (unsigned)__half_as_ushort(rest) << 16;
}
"""
_CODES = """
// Codes in the mantissas of two halves whose value without them is 1024.
static __device__ __forceinline__ unsigned handglass_masked(unsigned word, unsigned mask) {
  unsigned bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;"  // (word & mask) | exponents
      : "=r"(bits) : "r"(word), "r"(mask), "r"(0x64006400u));
  return bits;
}
static __device__ __forceinline__ unsigned handglass_lower_codes(unsigned word) {
  unsigned codes, bits = handglass_masked(word, 0x000f000fu);  // 1024 + code + 8
  asm("add.f16x2 %0, %1, %2;" : "=r"(codes) : "r"(bits), "r"(0xe408e408u));  // - 1032
  return codes;
}
static __device__ __forceinline__ unsigned handglass_upper_codes(unsigned word) {
  unsigned codes, bits = handglass_masked(word, 0x00f000f0u);  // 1024 + 16 (code + 8)
  asm("fma.rn.f16x2 %0, %1, %2, %3;"  // / 16 - 72
      : "=r"(codes) : "r"(bits), "r"(0x2c002c00u), "r"(0xd480d480u));
  return codes;
}
"""
_SHORT = """
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[FIRST]), "r"(a[SECOND]), "r"(b[HALF]));"""
"""Half of a product of 16 inputs, as chips before 8.0 have it."""
_MULTIPLY = f"""
static __device__ __forceinline__ void handglass_multiply_codes(
    float* c, const unsigned* a, const unsigned* b) {{
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, "
      "{{%8, %9}}, {{%0, %1, %2, %3}};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  {_SHORT.replace("FIRST", "0").replace("SECOND", "1").replace("HALF", "0")}
  {_SHORT.replace("FIRST", "2").replace("SECOND", "3").replace("HALF", "1")}
#endif
}}
"""
_WORD = """
// Eight outputs' sums += a word of this input and one of the input four further on.
static __device__ __forceinline__ void handglass_multiply_words(
    float* sums, unsigned word, unsigned next, const unsigned* row) {
  #pragma unroll
  for (int two = 0; two < 2; ++two) {
    unsigned even = __byte_perm(word, next, two ? 0x7632 : 0x5410), odd = even >> 8;
    unsigned codes[4] = {handglass_lower_codes(even), handglass_lower_codes(odd),
                         handglass_upper_codes(even), handglass_upper_codes(odd)};
    handglass_multiply_codes(sums + 4 * two, codes, row);
  }
}
"""
_GROUP = """
// The sums of a group, by outputs: (nearest, rest) each. `value` is what the lane has of the row.
static __device__ __forceinline__ void handglass_multiply_group(
    float* sums, const uint4* words, unsigned value) {
  int lane = threadIdx.x & 31, quad = lane >> 2;
  #pragma unroll
  for (int part = 0; part < 2; ++part) {
    unsigned row[2];
    #pragma unroll
    for (int half = 0; half < 2; ++half) {
      int first = 16 * half + 8 * part + (lane & 3);
      unsigned one = __shfl_sync(~0u, value, first), other = __shfl_sync(~0u, value, first + 4);
      row[half] = __byte_perm(one, other, quad & 1 ? 0x7632 : 0x5410);
    }
    #pragma unroll
    for (int four = 0; four < 4; ++four) {
      unsigned kept = quad >> 1 == four ? ~0u : 0u;
      unsigned here[2] = {row[0] & kept, row[1] & kept};
      handglass_multiply_words(sums, ((const unsigned*)(words + 2 * part))[four],
                               ((const unsigned*)(words + 2 * part + 1))[four], here);
    }
  }
}
"""
_GROUPS = """
// What a lane loads of a group of inputs.
template <bool STREAMED>
struct HandglassInt4Group {
  uint4 words[4];
  uint2 factors;
  float number;

  __device__ __forceinline__ void load(
      const uint4* weight, const uint2* scale, const float* x, int group, int inputs) {
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4* from = weight + 16 * group + 4 * i;
      words[i] = STREAMED ? __ldcs(from) : *from;
    }
    factors = scale[4 * group];
    int input = 32 * group + (threadIdx.x & 31);
    number = x[min(input, inputs - 1)];
    number = input < inputs ? number : 0.0f;
  }
  __device__ __forceinline__ void multiply(float* total) const {
    float c[8] = {};
    handglass_multiply_group(c, words, handglass_split(number));
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = c[2 * i] + c[2 * i + 1] * (1.0f / 2048.0f);
      total[i] += sum * __half2float(((const half*)&factors)[i]);
    }
  }
};
"""
_ROW = """
// Sums of the panels first to first + 7 over the groups of a part, to shared memory: every parts-th
// group, or adjacent ones. `UNROLL` of them are loaded at a time and, with `AHEAD`, while those
// before are multiplied.
template <int UNROLL, bool AHEAD, bool ADJACENT, bool STREAMED>
static __device__ __forceinline__ void handglass_int4_row(
    float* sums, const float* x, const unsigned* weight, const half* scale,
    int first, int panels, int part, int parts, int groups, int inputs) {
  int lane = threadIdx.x & 31, t = lane & 3, quad = lane >> 2;
  int place = min(first + quad, panels - 1) * groups;
  const uint4* words = (const uint4*)weight + 16 * place + t;
  const uint2* scales = (const uint2*)scale + 4 * place + t;
  int share = (groups + parts - 1) / parts, apart = ADJACENT ? 1 : parts;
  int start = ADJACENT ? part * share : part, end = ADJACENT ? min(start + share, groups) : groups;
  using Group = HandglassInt4Group<STREAMED>;
  auto load = [&](Group* to, int group) {
    #pragma unroll
    for (int u = 0; u < UNROLL; ++u)
      if (group + u * apart < end) to[u].load(words, scales, x, group + u * apart, inputs);
  };
  float total[4] = {};
  Group here[UNROLL], next[AHEAD ? UNROLL : 1];
  if (AHEAD) load(here, start);
  #pragma unroll 1
  for (int group = start; group < end; group += UNROLL * apart) {
    if (AHEAD) load(next, group + UNROLL * apart);
    else load(here, group);
    #pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      if (group + u * apart < end) here[u].multiply(total);
      if (AHEAD) here[u] = next[AHEAD ? u : 0];
    }
  }
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
      :: "r"((unsigned)__cvta_generic_to_shared(sums + 16 * quad + 4 * t)),
         "f"(total[0]), "f"(total[1]), "f"(total[2]), "f"(total[3]) : "memory");
}
"""
INT4_ROW = Function(
    "handglass_int4_row", _SPLIT + _CODES + _MULTIPLY + _WORD + _GROUP + _GROUPS + _ROW
)
