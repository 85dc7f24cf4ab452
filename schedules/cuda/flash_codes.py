"""CUDA C++ of attention on tensor cores: one query over a cache of int8 codes (flash_tile.py).

Codes stay bytes in shared memory and become float16, exactly, in registers. `ldmatrix.trans` moves
pairs of bytes: of the panel of a column, which has 16 positions, a lane gets two adjacent positions
of two columns. The lower bytes are a pair of float16 of the even position, the upper ones of the
odd one. So the even positions of a panel are one tile of scores and the odd ones the next: a lane
has the scores of four adjacent positions, and one load for their scales. Weights are in this order,
too, hence values of even positions are stored before those of odd ones. A lane gets two adjacent
columns of them, so that it has the sums of four.

Scales of keys multiply the scores, in float32. Those of values multiply the weights before these
are split into two float16, in units of a power of two that no scale of a warp so far exceeds twice:
neither the largest nor the smallest scales leave the range of float16.
"""

from __future__ import annotations

CODES = """
// Up to four matrices of 8 rows of 16 bytes, transposed; `at` is row `lane` of them.
template <int COUNT>
static __device__ __forceinline__ void handglass_flash_load_codes(unsigned* to, unsigned at) {
  if (COUNT == 4) handglass_flash_load4<true>(to, at);
  if (COUNT == 2 || COUNT == 3) handglass_flash_load2<true>(to, at);
  if (COUNT == 1 || COUNT == 3)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
        : "=r"(to[COUNT - 1]) : "r"(at + 128 * (COUNT - 1)) : "memory");
  #pragma unroll
  for (int i = 0; i < COUNT; ++i) to[i] ^= 0x80808080u;  // code + 128
}
// Two float16 of the lower bytes (0) or the upper ones (1) of two pairs. `upper` is 0x64646464.
template <int WHICH>
static __device__ __forceinline__ unsigned handglass_flash_decode(unsigned codes, unsigned upper) {
  unsigned two = __byte_perm(codes, upper, WHICH ? 0x4341 : 0x4240);  // 1024 + code + 128
  __half2 pair = __hsub2(*(__half2*)&two, __float2half2_rn(1152.0f));
  return *(unsigned*)&pair;
}
template <int D, int GROUP, int DOWN, int ACROSS, int BANDS, int CHUNK, int STEP, int STAGES,
          bool HELD, bool LAZY>
struct HandglassFlashCodes
    : HandglassFlash<D, GROUP, false, true, DOWN, ACROSS, BANDS, CHUNK, STEP, STAGES, HELD, LAZY,
                     true> {
  typedef HandglassFlash<
      D, GROUP, false, true, DOWN, ACROSS, BANDS, CHUNK, STEP, STAGES, HELD, LAZY, true> Halves;
  using Halves::sums; using Halves::peak; using Halves::total; using Halves::held;
  using Halves::lane; using Halves::row; using Halves::first_limit;
  using Halves::kBand; using Halves::kWhole; using Halves::kInputs;
  using Halves::kShare; using Halves::kTiles;
  typedef HandglassFlashCodesStage<D, CHUNK, 32 * DOWN * ACROSS> Cache;
  enum { kPieces = Cache::kPieces, kRow = Cache::kRow, kOdd = Cache::kOdd };
  enum { kPanel = Cache::kPanel, kValues = Cache::kValues, kScales = Cache::kScales };
  enum { kStage = Cache::kBytes / 2 };
  enum { kApart = D + (48 - D % 32) % 32 };  // rows of float32 that are 16 banks apart

  int top;  // bits of the unit of value scales: their largest power of two
  unsigned upper;  // bytes that make float16 of codes

  __device__ __forceinline__ void start(unsigned tile, int first_row) {
    Halves::start(tile, first_row);
    top = 0x00800000;
    // Known constants would be moved to a register before each use.
    upper = 0x64646464u + (threadIdx.x >> 5);
  }
  // Scores of tile 2n are those of the lane's positions 0 and 2 in panel n, of 2n + 1 of 1 and 3.
  __device__ __forceinline__ void step(unsigned stage, int place, int start, bool is_edge) {
    float scores[BANDS][STEP / 8][4];
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      #pragma unroll
      for (int n = 0; n < STEP / 8; ++n)
        #pragma unroll
        for (int i = 0; i < 4; ++i) scores[b][n][i] = 0;
    #pragma unroll
    for (int e = 0; e < D / 32; ++e) multiply<4>(scores, stage, place, e);
    if (D % 32 != 0) multiply<(D % 32 != 0 ? D % 32 / 8 : 1)>(scores, stage, place, D / 32);
    #pragma unroll
    for (int n = 0; n < STEP / 16; ++n) {
      float4 scale = scales(stage + kScales, place + 16 * n);
      #pragma unroll
      for (int b = 0; b < BANDS; ++b) {
        scores[b][2 * n][0] = whole(scores[b][2 * n], 0) * scale.x;
        scores[b][2 * n + 1][0] = whole(scores[b][2 * n + 1], 0) * scale.y;
        scores[b][2 * n][1] = whole(scores[b][2 * n], 1) * scale.z;
        scores[b][2 * n + 1][1] = whole(scores[b][2 * n + 1], 1) * scale.w;
      }
    }
    if (is_edge) hide(scores, start);
    float4 scale[STEP / 16];
    float change = rescale(scale, stage + kScales + 4 * CHUNK, place);
    unsigned weights[BANDS][STEP / 16][4];
    #pragma unroll
    for (int b = 0; b < BANDS; ++b) weigh(weights[b], scores[b], scale, change, b);
    mix(weights, stage + kValues, place);
  }
  __device__ __forceinline__ float whole(const float* c, int i) const {
    return c[i] + c[2 + i] * (1.0f / 2048.0f);
  }
  // Those of the lane's positions in a panel.
  __device__ __forceinline__ float4 scales(unsigned from, int place) const {
    return handglass_flash_floats(from + 4 * (place + 4 * (lane & 3)));
  }
  // Products with 32 columns of all panels of a step, or with the last 8 `COUNT`.
  template <int COUNT>
  __device__ __forceinline__ void multiply(
      float (&scores)[BANDS][STEP / 8][4], unsigned stage, int place, int e) {
    unsigned loaded[BANDS][2][4];
    if (!HELD) {
      #pragma unroll
      for (int b = 0; b < BANDS; ++b)
        #pragma unroll
        for (int k = 0; k < (COUNT + 1) / 2; ++k) this->load_queries(loaded[b][k], b, 2 * e + k);
    }
    #pragma unroll
    for (int n = 0; n < STEP / 16; ++n) {
      unsigned codes[4];
      handglass_flash_load_codes<COUNT>(
          codes, stage + (place + 16 * n) * D + 512 * e + 16 * lane);
      #pragma unroll
      for (int k = 0; k < (COUNT + 1) / 2; ++k)
        #pragma unroll
        for (int b = 0; b < BANDS; ++b) {
          const unsigned* a = HELD ? held[HELD ? b : 0][2 * e + k] : loaded[b][k];
          product<0>(scores[b][2 * n], a, codes + 2 * k, 2 * k + 1 < COUNT);
          product<1>(scores[b][2 * n + 1], a, codes + 2 * k, 2 * k + 1 < COUNT);
        }
    }
  }
  template <int WHICH>
  __device__ __forceinline__ void product(
      float* c, const unsigned* a, const unsigned* codes, bool is_whole) const {
    unsigned first = handglass_flash_decode<WHICH>(codes[0], upper);
    if (!is_whole) return handglass_flash_multiply8(c, a, first);
    handglass_flash_multiply16(c, a, first, handglass_flash_decode<WHICH>(codes[1], upper));
  }
  __device__ __forceinline__ void hide(float (&scores)[BANDS][STEP / 8][4], int start) const {
    int seen = first_limit - start - 4 * (lane & 3);
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      #pragma unroll
      for (int n = 0; n < STEP / 8; ++n)
        #pragma unroll
        for (int i = 0; i < 2; ++i)
          if (n / 2 * 16 + 2 * i + n % 2 >= seen) scores[b][n][i] = Halves::lowest_score();
  }
  // Scales of the values of a step in the warp's unit, and what becomes of older sums.
  __device__ __forceinline__ float rescale(
      float4 (&scale)[STEP / 16], unsigned from, int place) {
    float most = 0;
    #pragma unroll
    for (int n = 0; n < STEP / 16; ++n) {
      scale[n] = scales(from, place + 16 * n);
      most = fmaxf(most, fmaxf(fmaxf(scale[n].x, scale[n].y), fmaxf(scale[n].z, scale[n].w)));
    }
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    float old = __int_as_float(top);
    top = max(top, __float_as_int(most) & 0x7f800000);
    float inverse = __int_as_float(0x7f000000 - top);
    #pragma unroll
    for (int n = 0; n < STEP / 16; ++n)
      scale[n] = make_float4(scale[n].x * inverse, scale[n].y * inverse, scale[n].z * inverse,
                             scale[n].w * inverse);
    return old * inverse;
  }
  __device__ __forceinline__ void weigh(
      unsigned (&weights)[STEP / 16][4], const float (&scores)[STEP / 8][4],
      const float4 (&scale)[STEP / 16], float change, int b) {
    float most = peak[b][0], sum = 0;
    #pragma unroll
    for (int n = 0; n < STEP / 8; ++n) most = fmaxf(most, fmaxf(scores[n][0], scores[n][1]));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    #pragma unroll
    for (int n = 0; n < STEP / 8; ++n) {
      float low = handglass_flash_exp2(scores[n][0] - most);
      float high = handglass_flash_exp2(scores[n][1] - most);
      sum += low + high;
      low *= n % 2 == 0 ? scale[n / 2].x : scale[n / 2].y;
      high *= n % 2 == 0 ? scale[n / 2].z : scale[n / 2].w;
      unsigned pair = handglass_flash_pair(low, high);
      weights[n / 2][2 * (n & 1)] = pair;
      weights[n / 2][2 * (n & 1) + 1] = handglass_flash_rest(low, high, pair);
    }
    float decay = handglass_flash_exp2(peak[b][0] - most);
    total[b][0] = total[b][0] * decay + sum;
    peak[b][0] = most;
    decay *= change;
    if (LAZY && !__any_sync(~0u, decay != 1.0f)) return;
    #pragma unroll
    for (int e = 0; e < kTiles; ++e)
      #pragma unroll
      for (int i = 0; i < 4; ++i) sums[b][e][i] *= decay;
  }
  __device__ __forceinline__ void mix(
      const unsigned (&weights)[BANDS][STEP / 16][4], unsigned values, int place) {
    #pragma unroll
    for (int k = 0; k < STEP / 16; ++k)
      #pragma unroll
      for (int c = 0; c < kPieces; c += 2) {
        unsigned codes[4];
        unsigned at = values + (place / 16 + k) * kPanel + (lane >> 3 & 1) * kOdd
            + (lane & 7) * kRow + 16 * c;
        if (c + 1 < kPieces) handglass_flash_load_codes<4>(codes, at + (lane & 16));
        else handglass_flash_load_codes<2>(codes, at);
        #pragma unroll
        for (int part = 0; part < (c + 1 < kPieces ? 2 : 1); ++part)
          #pragma unroll
          for (int b = 0; b < BANDS; ++b) {
            float (*to)[4] = sums[b] + 2 * (c + part);
            product<0>(to[0], weights[b][k], codes + 2 * part, true);
            product<1>(to[1], weights[b][k], codes + 2 * part, true);
          }
      }
  }
  __device__ __forceinline__ void chunk(unsigned stage, int start) {
    int first = threadIdx.y / DOWN * kShare;
    #pragma unroll 1
    for (int place = first; place < first + kShare; place += STEP)
      if (start + place < first_limit)
        step(stage, place, start + place, start + place + STEP > first_limit);
  }
  template <class Visit>
  __device__ __forceinline__ void rows(const Visit& visit) const {
    float unit = __int_as_float(top);
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      visit(row + kBand * b + (lane >> 2), peak[b][0], handglass_flash_total(total[b][0]),
            (lane & 3) == 0, [&](float* to, float factor) {
              #pragma unroll
              for (int c = 0; c < kPieces; ++c) {
                const float (*sum)[4] = sums[b] + 2 * c;
                float4 all = make_float4(whole(sum[0], 0) * unit, whole(sum[1], 0) * unit,
                                         whole(sum[0], 1) * unit, whole(sum[1], 1) * unit);
                if (16 * c + 4 * (lane & 3) < D)
                  *(float4*)(to + 16 * c + 4 * (lane & 3)) = make_float4(
                      all.x * factor, all.y * factor, all.z * factor, all.w * factor);
              }
            });
  }
};
"""
