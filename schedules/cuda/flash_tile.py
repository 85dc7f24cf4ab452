"""CUDA C++ of attention on tensor cores: the rows of a warp (flash_functions.py).

With `FINE`, a band has 8 rows instead of 16, and the other 8 rows of each product are what float16
loses of them, times 2048. A lane has both parts of a score or a sum in its own registers, so that
they are added without an exchange, and the weights are split into such parts in the same way.
"""

TILE = """
template <int D, int GROUP, bool CAUSAL, bool PANELS, int DOWN, int ACROSS, int BANDS, int CHUNK,
          int STEP, int STAGES, bool HELD, bool LAZY, bool FINE>
struct HandglassFlash {
  // No static members, which NVRTC would emit as variables of the module.
  enum { kThreads = 32 * DOWN * ACROSS, kHalves = FINE ? 1 : 2 };
  enum { kBand = 8 * kHalves, kRows = kBand * BANDS * DOWN };
  enum { kStride = 8 * (D / 8 | 1), kWhole = D / 16, kInputs = (D + 15) / 16 };
  enum { kKeys = CHUNK * (PANELS ? D : kStride) };
  enum { kStage = kKeys + CHUNK * kStride, kShare = CHUNK / ACROSS };
  enum { kD = D, kGroup = GROUP, kAcross = ACROSS, kChunk = CHUNK, kStages = STAGES };
  enum { kDown = DOWN, kHeld = HELD, kTiles = 2 * kInputs };
  enum { kApart = D + (40 - D % 32) % 32 };  // rows of float32 that are 8 banks apart
  static __device__ __forceinline__ float lowest_score() { return -3.0e38f; }

  struct Cache {
    const handglass_half *keys, *values;
    int positions;

    __device__ __forceinline__ Cache(int head, int key_positions, int value_positions,
                                     const handglass_half* all_keys,
                                     const handglass_half* all_values)
        : keys(all_keys + (long long)head * key_positions * D),
          values(all_values + (long long)head * value_positions * D), positions(key_positions) {}
    __device__ __forceinline__ void fetch(unsigned stage, int start, int end) const {
      handglass_flash_fetch<HandglassFlash, D, PANELS, CHUNK>(
          stage, keys, values, start, end, positions);
    }
  };
  float sums[BANDS][kTiles][4], peak[BANDS][2], total[BANDS][2];
  unsigned held[HELD ? BANDS : 1][kInputs][4];
  unsigned queries;  // of this warp, in shared memory
  int lane, row, first_limit, count;

  __device__ __forceinline__ void start(unsigned tile, int first_row) {
    lane = threadIdx.x;
    int band = threadIdx.y % DOWN * BANDS;
    row = first_row + kBand * band;
    queries = tile + 2 * 16 * band * kStride;
    #pragma unroll
    for (int b = 0; b < BANDS; ++b) {
      #pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        peak[b][half] = lowest_score();
        total[b][half] = 0;
      }
      #pragma unroll
      for (int e = 0; e < kTiles; ++e)
        #pragma unroll
        for (int i = 0; i < 4; ++i) sums[b][e][i] = 0;
      if (HELD) {
        #pragma unroll
        for (int k = 0; k < kInputs; ++k) load_queries(held[b][k], b, k);
      }
    }
  }
  // Positions that a row sees; rows beyond the last query are copies of it.
  __device__ __forceinline__ int limit_of(int r) const {
    return CAUSAL ? first_limit + min(r / GROUP, count - 1) : first_limit;
  }
  // That of the lane's row in a band, or of the one eight further on.
  __device__ __forceinline__ int limit(int b, int half) const {
    return limit_of(row + kBand * b + 8 * half + (lane >> 2));
  }
  __device__ __forceinline__ void load_queries(unsigned* to, int band, int k) const {
    unsigned at = queries + 2 * ((16 * band + (lane & 15)) * kStride + 16 * k);
    if (k < kWhole) handglass_flash_load4<false>(to, at + 16 * (lane >> 4));
    else handglass_flash_load2<false>(to, at);
  }
  // 16 inputs (or the last 8) of 16 positions: two columns of the right operand.
  __device__ __forceinline__ void load_keys(
      unsigned* to, unsigned keys, int place, int k) const {
    if (PANELS) {
      int e = k < kWhole ? lane & 15 : lane & 7;
      int part = k < kWhole ? lane >> 4 : lane >> 3 & 1;
      unsigned at = keys + 2 * (16 * e + 8 * (part ^ (e >> 2 & 1))) + 2 * (place * D + 256 * k);
      if (k < kWhole) handglass_flash_load4<true>(to, at);
      else handglass_flash_load2<true>(to, at);
      return;
    }
    int which = k < kWhole ? (lane & 7) + (lane >> 4) * 8 : lane & 15;
    unsigned at = keys + 2 * which * kStride + 2 * (place * kStride + 16 * k);
    if (k < kWhole) handglass_flash_load4<false>(to, at + 16 * (lane >> 3 & 1));
    else handglass_flash_load2<false>(to, at);
  }
  __device__ __forceinline__ void step(
      unsigned keys, unsigned values, int place, int start, bool is_edge) {
    float scores[BANDS][STEP / 8][4];
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      #pragma unroll
      for (int n = 0; n < STEP / 8; ++n)
        #pragma unroll
        for (int i = 0; i < 4; ++i) scores[b][n][i] = 0;
    #pragma unroll
    for (int k = 0; k < kInputs; ++k) {
      unsigned loaded[BANDS][4];
      if (!HELD) {
        #pragma unroll
        for (int b = 0; b < BANDS; ++b) load_queries(loaded[b], b, k);
      }
      #pragma unroll
      for (int n = 0; n < STEP / 16; ++n) {
        unsigned column[4];
        load_keys(column, keys, place + 16 * n, k);
        #pragma unroll
        for (int b = 0; b < BANDS; ++b) {
          const unsigned* a = HELD ? held[HELD ? b : 0][k] : loaded[b];
          if (k < kWhole) {
            handglass_flash_multiply16(scores[b][2 * n], a, column[0], column[1]);
            handglass_flash_multiply16(scores[b][2 * n + 1], a, column[2], column[3]);
          } else {
            handglass_flash_multiply8(scores[b][2 * n], a, column[0]);
            handglass_flash_multiply8(scores[b][2 * n + 1], a, column[1]);
          }
        }
      }
    }
    if (FINE) {
      #pragma unroll
      for (int b = 0; b < BANDS; ++b)
        #pragma unroll
        for (int n = 0; n < STEP / 8; ++n)
          #pragma unroll
          for (int i = 0; i < 2; ++i) scores[b][n][i] += scores[b][n][2 + i] * (1.0f / 2048.0f);
    }
    if (is_edge) hide(scores, start);
    unsigned weights[BANDS][STEP / 16][4];
    #pragma unroll
    for (int b = 0; b < BANDS; ++b) weigh(weights[b], scores[b], b);
    if (CAUSAL && is_edge && has_odd(values, place)) mix<true>(weights, values, place, start);
    else mix<false>(weights, values, place, start);
  }
  __device__ __forceinline__ void hide(float (&scores)[BANDS][STEP / 8][4], int start) const {
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      #pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        int seen = limit(b, half) - start - 2 * (lane & 3);
        #pragma unroll
        for (int n = 0; n < STEP / 8; ++n)
          #pragma unroll
          for (int i = 0; i < 2; ++i)
            if (8 * n + i >= seen) scores[b][n][2 * half + i] = lowest_score();
      }
  }
  // Scores of a band become weights relative to its new maxima.
  __device__ __forceinline__ void weigh(
      unsigned (&weights)[STEP / 16][4], float (&scores)[STEP / 8][4], int b) {
    float decay[2];
    #pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float most = peak[b][half], sum = 0;
      #pragma unroll
      for (int n = 0; n < STEP / 8; ++n)
        most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      #pragma unroll
      for (int n = 0; n < STEP / 8; ++n) {
        float low = handglass_flash_exp2(scores[n][2 * half] - most);
        float high = handglass_flash_exp2(scores[n][2 * half + 1] - most);
        sum += low + high;
        unsigned pair = handglass_flash_pair(low, high);
        weights[n / 2][2 * (n & 1) + half] = pair;
        if (FINE) weights[n / 2][2 * (n & 1) + 1] = handglass_flash_rest(low, high, pair);
      }
      decay[half] = handglass_flash_exp2(peak[b][half] - most);
      total[b][half] = total[b][half] * decay[half] + sum;
      peak[b][half] = most;
    }
    if (LAZY && !__any_sync(~0u, decay[0] != 1.0f || decay[kHalves - 1] != 1.0f)) return;
    #pragma unroll
    for (int e = 0; e < D / 8; ++e)
      #pragma unroll
      for (int i = 0; i < 4; ++i) sums[b][e][i] *= decay[FINE ? 0 : i >> 1];
  }
  // What a lane has of a row: two columns, whose parts are added.
  __device__ __forceinline__ float2 result(int b, int e, int half) const {
    const float* c = sums[b][e] + 2 * half;
    if (!FINE) return make_float2(c[0], c[1]);
    return make_float2(c[0] + c[2] * (1.0f / 2048.0f), c[1] + c[3] * (1.0f / 2048.0f));
  }
  // Calls visit(row, peak, total, whether this lane tells them, put) for each row of the lane, of
  // whose sums put(to, factor) stores the lane's columns.
  template <class Visit>
  __device__ __forceinline__ void rows(const Visit& visit) const {
    #pragma unroll
    for (int b = 0; b < BANDS; ++b)
      #pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        float all = handglass_flash_total(total[b][half]);
        visit(row + kBand * b + 8 * half + (lane >> 2), peak[b][half], all, (lane & 3) == 0,
              [&](float* to, float factor) {
                #pragma unroll
                for (int e = 0; e < D / 8; ++e) {
                  float2 sum = result(b, e, half);
                  *(float2*)(to + 8 * e + 2 * (lane & 3)) =
                      make_float2(sum.x * factor, sum.y * factor);
                }
              });
      }
  }
  // 16 values of 16 columns (or the last 8): two columns of the right operand.
  __device__ __forceinline__ void load_values(
      unsigned* to, unsigned values, int place, int e) const {
    unsigned at = values + 2 * (lane & 15) * kStride + 2 * (place * kStride + 16 * e);
    if (e < kWhole) handglass_flash_load4<true>(to, at + 16 * (lane >> 4));
    else handglass_flash_load2<true>(to, at);
  }
  template <bool ODD>
  __device__ __forceinline__ void mix(
      const unsigned (&weights)[BANDS][STEP / 16][4], unsigned values, int place, int start) {
    #pragma unroll
    for (int k = 0; k < STEP / 16; ++k)
      #pragma unroll
      for (int e = 0; e < kInputs; ++e) {
        unsigned column[4];
        load_values(column, values, place + 16 * k, e);
        #pragma unroll
        for (int part = 0; part < (e < kWhole ? 2 : 1); ++part) {
          if (ODD) spoil(column + 2 * part, 2 * e + part, start + 16 * k);
          #pragma unroll
          for (int b = 0; b < BANDS; ++b)
            handglass_flash_multiply16(sums[b][2 * e + part], weights[b][k], column[2 * part],
                                       column[2 * part + 1]);
        }
      }
  }
  // Whether one of the values of a step is not finite.
  __device__ __forceinline__ bool has_odd(unsigned values, int place) const {
    __half2 sum = __float2half2_rn(0.0f);
    #pragma unroll
    for (int k = 0; k < STEP / 16; ++k)
      #pragma unroll
      for (int e = 0; e < kInputs; ++e) {
        unsigned column[4];
        load_values(column, values, place + 16 * k, e);
        #pragma unroll
        for (int i = 0; i < (e < kWhole ? 4 : 2); ++i) handglass_flash_note(sum, column[i]);
      }
    return __any_sync(~0u, __hisnan(sum.x) || __hisnan(sum.y));
  }
  // Zero times infinity is no number, so values that are not finite become zeros, and the sums of
  // those rows that see them are spoilt.
  __device__ __forceinline__ void spoil(unsigned* column, int e, int start) {
    unsigned odd[2] = {handglass_flash_odd(column[0]), handglass_flash_odd(column[1])};
    #pragma unroll
    for (int i = 0; i < 2; ++i) column[i] &= ~(odd[i] / 0x3c00u * 0xffffu);
    #pragma unroll
    for (int b = 0; b < BANDS; ++b) {
      unsigned seen[4];
      #pragma unroll
      for (int i = 0; i < 4; ++i) {
        int left = limit(b, i & 1) - (start + 8 * (i >> 1) + 2 * (lane & 3));
        seen[i] = (left > 0 ? 0x3c00u : 0u) | (left > 1 ? 0x3c000000u : 0u);
      }
      float met[4] = {0, 0, 0, 0};
      handglass_flash_multiply16(met, seen, odd[0], odd[1]);
      #pragma unroll
      for (int i = 0; i < 4; ++i)
        if (met[i] > 0) sums[b][e][i] = __int_as_float(0x7fffffff);
    }
  }
  // The positions of a chunk that are this warp's, a step at a time.
  __device__ __forceinline__ void chunk(unsigned stage, int start) {
    int first = threadIdx.y / DOWN * kShare;
    int lowest = limit_of(row), highest = limit_of(row + kBand * BANDS - 1);
    #pragma unroll 1
    for (int place = first; place < first + kShare; place += STEP)
      if (start + place < highest)
        step(stage, stage + 2 * kKeys, place, start + place, start + place + STEP > lowest);
  }
};
"""
