"""CUDA C++ of one row times float weights (float_row.py).

A warp owns several panels of 16 outputs. A lane loads 16 adjacent bytes of an input, which are some
of a panel's outputs, and does so for four adjacent inputs, whose activations are one load; the
lanes of a panel read adjacent inputs. Each lane keeps the sums of its outputs over its inputs in
float32; in the end, the lanes with the same outputs add them up.
"""

from __future__ import annotations

from .device_functions import Function

_TERMS = """
// Adds the products of a number with the weights in a word.
static __device__ __forceinline__ void handglass_add_word(
    float* sums, unsigned word, float x, const float*) {
  sums[0] += x * __uint_as_float(word);
}
#ifdef __CUDA_FP16_H__
static __device__ __forceinline__ void handglass_add_word(
    float* sums, unsigned word, float x, const half*) {
  float2 two = __half22float2(*(half2*)&word);
  sums[0] += x * two.x;
  sums[1] += x * two.y;
}
#endif
static __device__ __forceinline__ void handglass_add_word(  // bfloat16
    float* sums, unsigned word, float x, const unsigned short*) {
  sums[0] += x * __uint_as_float(word << 16);
  sums[1] += x * __uint_as_float(word & 0xffff0000u);
}
"""
_INPUTS = """
// Four adjacent inputs of a lane: 16 bytes of weights each, and their activations.
template <class Weight, bool STREAMED>
struct HandglassFloatInputs {
  enum { kOutputs = 16 / sizeof(Weight), kLanes = 16 / kOutputs };
  uint4 words[4];
  float4 x;

  __device__ __forceinline__ void load(const uint4* weight, const float* row, int input) {
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4* from = weight + (input + i) * kLanes;
      words[i] = STREAMED ? __ldcs(from) : *from;
    }
    x = *(const float4*)(row + input);
  }
  // Inputs beyond the last one have its weights, and zeros.
  __device__ __forceinline__ void load_last(
      const uint4* weight, const float* row, int input, int inputs) {
    float* to = (float*)&x;
    #pragma unroll
    for (int i = 0; i < 4; ++i) {
      int place = min(input + i, inputs - 1);
      words[i] = weight[place * kLanes];
      to[i] = input + i < inputs ? row[place] : 0.0f;
    }
  }
  __device__ __forceinline__ void multiply(float* sums) const {
    #pragma unroll
    for (int i = 0; i < 4; ++i)
      #pragma unroll
      for (int w = 0; w < 4; ++w)
        handglass_add_word(sums + kOutputs / 4 * w, ((const unsigned*)(words + i))[w],
                           ((const float*)&x)[i], (const Weight*)0);
  }
};
"""
_ROW = """
// Sums of PANELS panels over the inputs of a part, to shared memory: every parts-th group of
// inputs, or adjacent ones. `UNROLL` groups are loaded at a time and, with `AHEAD`, while those
// before are multiplied.
template <int PANELS, int UNROLL, bool AHEAD, bool ADJACENT, bool STREAMED, class Weight>
static __device__ __forceinline__ void handglass_float_row(
    float* sums, const float* row, const Weight* weight, int first, int panels, int part,
    int parts, int inputs) {
  using Inputs = HandglassFloatInputs<Weight, STREAMED>;
  constexpr int kOutputs = Inputs::kOutputs, kLanes = Inputs::kLanes, kAll = 32 / PANELS;
  constexpr int kGroup = 4 * kAll / kLanes;
  int lane = threadIdx.x & 31, out = lane % kLanes, member = lane / kLanes % (kAll / kLanes);
  int panel = min(first + lane / kAll, panels - 1), place = 4 * member;
  const uint4* words = (const uint4*)weight + panel * inputs * kLanes + out;
  int groups = inputs / kGroup, share = (groups + parts - 1) / parts;
  int apart = ADJACENT ? 1 : parts, start = ADJACENT ? part * share : part;
  int end = ADJACENT ? min(start + share, groups) : groups;
  auto load = [&](Inputs* to, int group) {
    #pragma unroll
    for (int u = 0; u < UNROLL; ++u)
      if (group + u * apart < end) to[u].load(words, row, kGroup * (group + u * apart) + place);
  };
  float total[kOutputs] = {};
  Inputs here[UNROLL], next[AHEAD ? UNROLL : 1];
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
  if (part == groups % parts && groups * kGroup < inputs) {
    here[0].load_last(words, row, kGroup * groups + place, inputs);
    here[0].multiply(total);
  }
  // Lanes with the same outputs exchange halves of them, then add up what each still has.
  int kept = 0;
  #pragma unroll
  for (int other = kLanes, count = kOutputs; other < kAll; other *= 2) {
    if (count > 4) {
      count /= 2;
      bool upper = lane & other;
      #pragma unroll
      for (int i = 0; i < count; ++i) {
        float low = total[i], high = total[count + i];
        total[i] = (upper ? high : low) + __shfl_xor_sync(~0u, upper ? low : high, other);
      }
      kept += upper ? count : 0;
      continue;
    }
    #pragma unroll
    for (int i = 0; i < count; ++i) total[i] += __shfl_xor_sync(~0u, total[i], other);
  }
  if (member >= kOutputs / 4) return;  // others have the same quads
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
      :: "r"((unsigned)__cvta_generic_to_shared(sums + 16 * (lane / kAll) + kOutputs * out + kept)),
         "f"(total[0]), "f"(total[1]), "f"(total[2]), "f"(total[3]) : "memory");
}
"""
FLOAT_ROW = Function("handglass_float_row", _TERMS + _INPUTS + _ROW)
