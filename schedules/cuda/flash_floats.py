"""CUDA C++ of attention of one query over a float32 cache, by `fma` of float32.

It shares copies, workgroups and merging with attention on tensor cores (flash_functions.py). A warp
owns up to 8 rows, the heads that share keys, and looks at 16 or 32 positions per step. For their
scores, a lane has four adjacent positions of a panel and every fourth or eighth column: one load of
128 bits brings a column of four keys, another one four columns of a row. Lanes with the same
positions then exchange what they have until each has one score of each row. Weights go through
shared memory, because for the products with the values a lane has four columns and all positions,
or with few columns every second or fourth position.

Queries are stored in the order in which a lane needs them: of 4 `kParts` columns, lane part 0 has
the numbers 0, kParts, 2 kParts and 3 kParts.
"""

from __future__ import annotations

FLOATS = """
template <int D, int GROUP, int ROWS, int BAND, int DOWN, int ACROSS, int CHUNK, int STEP,
          int STAGES, bool LAZY>
struct HandglassFlashFloats {
  enum { kD = D, kGroup = GROUP, kAcross = ACROSS, kChunk = CHUNK, kStages = STAGES };
  enum { kDown = DOWN, kHeld = 0, kThreads = 32 * DOWN * ACROSS, kRows = ROWS * DOWN };
  enum { kApart = D, kStage = 4 * CHUNK * D, kShare = CHUNK / ACROSS };  // in float16
  enum { kParts = 128 / STEP, kBlock = 4 * kParts, kLine = (D + kBlock - 1) / kBlock * kBlock };
  // Lanes across the columns of the values, positions at a time, and positions of each of these.
  enum { kColumns = D / 4, kWide = (kColumns + 31) / 32 };
  enum { kFit = kColumns > 16 ? 1 : kColumns > 8 ? 2 : kColumns > 4 ? 4 : 8 };
  enum { kAt = kFit < STEP / 4 ? kFit : STEP / 4, kEach = STEP / kAt };

  struct Cache {
    const float *keys, *values;

    __device__ __forceinline__ Cache(int head, int key_positions, int value_positions,
                                     const float* all_keys, const float* all_values)
        : keys(all_keys + (long long)head * key_positions * D),
          values(all_values + (long long)head * value_positions * D) {}
    // Keys beyond the last panel are those of its last column, values beyond `end` are zeros.
    __device__ __forceinline__ void fetch(unsigned stage, int start, int end) const {
      if (end - start >= CHUNK) fetch<true>(stage, start, CHUNK);
      else fetch<false>(stage, start, end - start);
    }
    template <bool WHOLE>
    __device__ __forceinline__ void fetch(unsigned stage, int start, int count) const {
      constexpr int kUnits = CHUNK * kColumns, kRounds = (kUnits + kThreads - 1) / kThreads;
      int thread = threadIdx.x + 32 * threadIdx.y;
      const float *key = keys + (long long)start * D + 4 * thread;
      const float *value = values + (long long)start * D + 4 * thread;
      int last = (count + 15) / 16 * 16 * kColumns - 1 - thread, seen = count * kColumns - thread;
      stage += 16 * thread;
      #pragma unroll (WHOLE ? kRounds : 1)
      for (int round = 0; round < kRounds; ++round) {
        int unit = round * kThreads;  // after that of the thread
        if (kUnits % kThreads != 0 && unit >= kUnits - thread) break;
        handglass_flash_copy(stage + 16 * unit, key + 4 * (WHOLE ? unit : min(unit, last)), true);
        bool is_seen = WHOLE || unit < seen;
        handglass_flash_copy(
            stage + kStage + 16 * unit, is_seen ? value + 4 * unit : values, is_seen);
      }
    }
  };
  float sums[ROWS][kWide][4], peak[ROWS], total[ROWS];
  unsigned queries, weights;  // of this warp, in shared memory
  int lane, row, first_limit, count;

  __device__ __forceinline__ int limit_of(int) const { return first_limit; }
  __device__ __forceinline__ void start(unsigned tile, int first_row) {
    lane = threadIdx.x;
    int band = threadIdx.y % DOWN * ROWS;
    row = first_row + band;
    queries = tile + 4 * band * kLine;
    weights = tile + 4 * (kRows * kLine + threadIdx.y * ROWS * STEP);
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      peak[r] = -3.0e38f;
      total[r] = 0;
      #pragma unroll
      for (int j = 0; j < kWide; ++j)
        #pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][j][i] = 0;
    }
  }
  // The position of a step whose scores are the lane's.
  __device__ __forceinline__ int mine() const {
    return (STEP == 32 ? lane & 16 : 0) + 4 * (lane & 3) + (lane >> 2 & 3);
  }
  __device__ __forceinline__ void step(unsigned stage, int place, int start, bool is_edge) {
    float scores[ROWS];
    unsigned keys = stage + 4 * (place + (STEP == 32 ? lane & 16 : 0)) * D + 16 * (lane & 3);
    #pragma unroll
    for (int r = 0; r < ROWS; r += BAND) score(scores + r, keys, r, min(BAND, ROWS - r));
    #pragma unroll
    for (int r = 0; r < ROWS; ++r)
      if (is_edge && start + mine() >= first_limit) scores[r] = -3.0e38f;
    weigh(scores);
    mix(stage + kStage, place);
  }
  // Scores of `rows` rows from `first` on.
  __device__ __forceinline__ void score(
      float* scores, unsigned keys, int first, int rows) const {
    float parts[BAND][4];
    #pragma unroll
    for (int r = 0; r < rows; ++r)
      #pragma unroll
      for (int i = 0; i < 4; ++i) parts[r][i] = 0;
    #pragma unroll
    for (int e = 0; e < D / kBlock; ++e) multiply<4>(parts, keys, e, first, rows);
    if (D % kBlock != 0)
      multiply<(D % kBlock != 0 ? D % kBlock / kParts : 1)>(parts, keys, D / kBlock, first, rows);
    #pragma unroll
    for (int r = 0; r < rows; ++r) scores[r] = exchanged(parts[r]);
  }
  // Products with `COUNT` columns.
  template <int COUNT>
  __device__ __forceinline__ void multiply(
      float (&parts)[BAND][4], unsigned keys, int e, int first, int rows) const {
    int part = lane >> 2 & (kParts - 1);
    float4 key[COUNT];
    #pragma unroll
    for (int k = 0; k < COUNT; ++k)
      key[k] = handglass_flash_floats(keys + 64 * (kBlock * e + kParts * k + part));
    #pragma unroll
    for (int r = 0; r < rows; ++r) {
      unsigned at = queries + 4 * ((first + r) * kLine + kBlock * e + 4 * part);
      float query[4];
      if (COUNT == 4) *(float4*)query = handglass_flash_floats(at);
      #pragma unroll
      for (int k = 0; k < COUNT; ++k) {
        if (COUNT < 4) query[k] = handglass_flash_float(at + 4 * k);
        parts[r][0] += query[k] * key[k].x;
        parts[r][1] += query[k] * key[k].y;
        parts[r][2] += query[k] * key[k].z;
        parts[r][3] += query[k] * key[k].w;
      }
    }
  }
  // Adds up what lanes with the same four positions have; the lane keeps one of the four.
  __device__ __forceinline__ float exchanged(const float* parts) const {
    bool odd = lane & 4, high = lane & 8;
    float first = (odd ? parts[1] : parts[0])
        + __shfl_xor_sync(~0u, odd ? parts[0] : parts[1], 4);
    float second = (odd ? parts[3] : parts[2])
        + __shfl_xor_sync(~0u, odd ? parts[2] : parts[3], 4);
    float sum = (high ? second : first) + __shfl_xor_sync(~0u, high ? first : second, 8);
    return kParts == 8 ? sum + __shfl_xor_sync(~0u, sum, 16) : sum;
  }
  __device__ __forceinline__ void weigh(const float (&scores)[ROWS]) {
    bool more = !LAZY;
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) more |= scores[r] > peak[r] + 8;
    if (!LAZY || __any_sync(~0u, more)) raise(scores);
    __syncwarp();  // all have read the weights before
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      float weight = handglass_flash_exp2(scores[r] - peak[r]);
      total[r] += weight;
      handglass_flash_keep(weights + 4 * (r * STEP + mine()), weight);
    }
    __syncwarp();
  }
  __device__ __forceinline__ void raise(const float (&scores)[ROWS]) {
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      float most = fmaxf(peak[r], scores[r]);
      #pragma unroll
      for (int apart = 1; apart < STEP; apart *= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, apart));
      float decay = handglass_flash_exp2(peak[r] - most);
      peak[r] = most;
      total[r] *= decay;
      #pragma unroll
      for (int j = 0; j < kWide; ++j)
        #pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][j][i] *= decay;
    }
  }
  __device__ __forceinline__ void mix(unsigned values, int place) {
    int at = min(lane / kColumns, kAt - 1) * kEach;
    unsigned first = values + 4 * (place + at) * D;
    #pragma unroll 4
    for (int p = 0; p < kEach; p += 4) {
      float4 value[kWide][4];
      #pragma unroll
      for (int j = 0; j < kWide; ++j)
        #pragma unroll
        for (int i = 0; i < 4; ++i)
          value[j][i] = handglass_flash_floats(first + 4 * (p + i) * D + 16 * column(j));
      #pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        float weight[4];
        *(float4*)weight = handglass_flash_floats(weights + 4 * (r * STEP + at + p));
        #pragma unroll
        for (int j = 0; j < kWide; ++j)
          #pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[r][j][0] += weight[i] * value[j][i].x;
            sums[r][j][1] += weight[i] * value[j][i].y;
            sums[r][j][2] += weight[i] * value[j][i].z;
            sums[r][j][3] += weight[i] * value[j][i].w;
          }
      }
    }
  }
  // Four columns of the lane; those of lanes beyond the last are not used.
  __device__ __forceinline__ int column(int j) const {
    return kWide == 1 ? lane % kColumns : min(lane + 32 * j, kColumns - 1);
  }
  __device__ __forceinline__ void chunk(unsigned stage, int start) {
    int first = threadIdx.y / DOWN * kShare;
    #pragma unroll 4
    for (int place = first; place < first + kShare; place += STEP)
      if (start + place < first_limit)
        step(stage, place, start + place, start + place + STEP > first_limit);
  }
  template <class Visit>
  __device__ __forceinline__ void rows(const Visit& visit) const {
    #pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      float all = total[r];
      #pragma unroll
      for (int apart = 1; apart < STEP; apart *= 2) all += __shfl_xor_sync(~0u, all, apart);
      float sum[kWide][4];
      #pragma unroll
      for (int j = 0; j < kWide; ++j)
        #pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[j][i] = sums[r][j][i];
          #pragma unroll
          for (int apart = kAt / 2; apart > 0; apart /= 2)
            sum[j][i] += __shfl_down_sync(~0u, sum[j][i], apart * kColumns);
        }
      visit(row + r, peak[r], all, lane == 0, [&](float* to, float factor) {
        #pragma unroll
        for (int j = 0; j < kWide; ++j)
          if (lane + 32 * j < kColumns)
            *(float4*)(to + 4 * lane + 128 * j) = make_float4(
                sum[j][0] * factor, sum[j][1] * factor, sum[j][2] * factor, sum[j][3] * factor);
      });
    }
  }
};
"""
